"""Gaussians as the PLY file that splat viewers read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mem3r_gsplat.gaussians import Gaussians
from mem3r_plugin.exports.files import write_file


def write_splat_ply(file: Path, gaussians: Gaussians, comment: str | None = None) -> None:
    """Write Gaussians in the layout of the original 3-D Gaussian splatting, little-endian floats.

    `f_rest` holds all red coefficients first, then green, then blue. Normals are zero, as there.

    Args:
        file: The file; what was there is replaced.
        gaussians: Any device.
        comment: A line for the header.

    Raises:
        OutputError: the file cannot be written.
    """
    values = {name: tensor.detach().cpu().numpy() for name, tensor in gaussians.tensors().items()}
    count = len(gaussians)
    columns = {
        **_columns(["x", "y", "z"], values["means"]),
        **_columns(["nx", "ny", "nz"], np.zeros((count, 3))),
        **_numbered("f_dc", values["sh0"].reshape(count, 3)),
        **_numbered("f_rest", values["shN"].transpose(0, 2, 1).reshape(count, -1)),
        "opacity": values["opacities"],
        **_numbered("scale", values["scales"]),
        **_numbered("rot", values["quats"]),
    }
    vertices = np.empty(count, [(name, "<f4") for name in columns])
    for name, column in columns.items():
        vertices[name] = column
    header = [
        "ply",
        "format binary_little_endian 1.0",
        *([] if comment is None else [f"comment {comment}"]),
        f"element vertex {count}",
        *(f"property float {name}" for name in columns),
        "end_header\n",
    ]
    write_file(file, "\n".join(header).encode() + vertices.tobytes())


def _columns(names: list[str], values: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip(names, values.T, strict=True))


def _numbered(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    return {f"{name}_{index}": column for index, column in enumerate(values.T)}
