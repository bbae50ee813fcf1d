"""The PLY file has the layout of the original 3-D Gaussian splatting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mem3r_gsplat import Gaussians, write_splat_ply

ORIGINAL = [
    *("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"),
    *(f"f_rest_{index}" for index in range(45)),
    *("opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
]


def read_ply(file: Path) -> np.ndarray:
    header, data = file.read_bytes().split(b"end_header\n", 1)
    lines = header.decode().splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    names = [line.split()[2] for line in lines if line.startswith("property float")]
    vertices = np.frombuffer(data, [(name, "<f4") for name in names])
    assert f"element vertex {len(vertices)}" in lines
    return vertices


@pytest.fixture
def gaussians() -> Gaussians:
    torch.manual_seed(0)
    shapes = {"means": (7, 3), "scales": (7, 3), "quats": (7, 4), "opacities": (7,)}
    return Gaussians(
        **{name: torch.randn(shape) for name, shape in shapes.items()},
        sh0=torch.randn(7, 1, 3),
        shN=torch.randn(7, 15, 3),
    )


def test_layout_of_the_original(tmp_path: Path, gaussians: Gaussians) -> None:
    write_splat_ply(tmp_path / "splat.ply", gaussians, "metres per unit: unknown")
    vertices = read_ply(tmp_path / "splat.ply")
    assert list(vertices.dtype.names or ()) == ORIGINAL
    assert np.array_equal(vertices["y"], gaussians.means[:, 1].numpy())
    assert np.array_equal(vertices["f_dc_2"], gaussians.sh0[:, 0, 2].numpy())
    # All red coefficients, then all green, then all blue.
    assert np.array_equal(vertices["f_rest_0"], gaussians.shN[:, 0, 0].numpy())
    assert np.array_equal(vertices["f_rest_14"], gaussians.shN[:, 14, 0].numpy())
    assert np.array_equal(vertices["f_rest_15"], gaussians.shN[:, 0, 1].numpy())
    assert np.array_equal(vertices["opacity"], gaussians.opacities.numpy())
    assert np.array_equal(vertices["rot_0"], gaussians.quats[:, 0].numpy())


def test_same_bytes_as_gsplats_own_exporter(tmp_path: Path, gaussians: Gaussians) -> None:
    exporter = pytest.importorskip("gsplat.exporter", reason="gsplat has an exporter from 1.5 on")
    write_splat_ply(tmp_path / "ours.ply", gaussians)
    exporter.export_splats(**gaussians.tensors(), save_to=str(tmp_path / "theirs.ply"))
    ours, theirs = read_ply(tmp_path / "ours.ply"), read_ply(tmp_path / "theirs.ply")
    shared = [name for name in ORIGINAL if name in (theirs.dtype.names or ())]
    assert len(shared) >= len(ORIGINAL) - 3  # it leaves out the normals
    for name in shared:
        # It sorts the Gaussians along a curve.
        assert np.allclose(np.sort(ours[name]), np.sort(theirs[name])), name


def test_joining_keeps_the_order(gaussians: Gaussians) -> None:
    both = gaussians.joined(gaussians)
    assert len(both) == 14
    assert torch.equal(both.means[7:], gaussians.means)
    assert both.sh_degree == 3
