"""Fetches things for the worlds: the furniture library that Debian ships for Sweet Home 3D.

820 models with their sizes in a catalogue, CC0 or CC BY. They are fetched when somebody wants them and belong
to no release of this package.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import save_file

from mem3r_plugin.errors import SourceError
from mem3r_plugin.exports.files import new_folder
from mem3r_plugin.progress import ProgressCallback, no_progress
from mem3r_plugin.training.worlds.packages import LICENCES, licence, unpacked
from mem3r_plugin.training.worlds.textures import SIZE
from mem3r_plugin.training.worlds.things import CATALOGUE, GEOMETRY, SKINS, import_open3d

if TYPE_CHECKING:
    import open3d as o3d

PACKAGE = "sweethome3d-furniture"
"""Debian's package of models, 120 MB."""
_LIBRARIES = "usr/share/sweethome3d/furniture/*.sh3f"
_PROPERTIES = "PluginFurnitureCatalog.properties"
_INSTEAD = "leave data.things out to train without things"
_SKIPPED = {"Doors and windows", "Staircases"}
"""Holes in walls, and what leads through them."""
_MOST_TRIANGLES = 40_000
_FLAT = 0.02
"""Metres; what is flatter is painted on the ground."""
_SEEN_THROUGH = 0.5
"""Mean opacity below which a textured surface is left out; glass without a texture is read as opaque."""
_WHITE = np.full((SIZE, SIZE, 3), 255, dtype=np.uint8)
"""The texture of what has none; its colour dyes it."""
_UPRIGHT = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
"""Turns the models' axes, y up and the front towards z, to ours."""
_ALONG = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
"""Turns what is deeper than wide, about the vertical."""

Array = NDArray[np.float64]


@dataclass
class _Collection:
    """What has been converted so far."""

    folder: Path
    """Gets the textures."""
    catalogue: list[dict[str, Any]] = field(default_factory=list)
    tensors: dict[str, NDArray[Any]] = field(default_factory=dict)
    skins: dict[str, int] = field(default_factory=dict)
    """Number of each texture by the hash of its pixels."""

    def add(
        self, entry: dict[str, str], model: o3d.visualization.rendering.TriangleMeshModel
    ) -> None:
        """Takes a model up, unless there is nothing of it to be seen or too much."""
        read = [self._part(mesh.mesh, model.materials[mesh.material_idx]) for mesh in model.meshes]
        parts = [part for part in read if part is not None]
        if not 0 < sum(len(part["faces"]) for part in parts) <= _MOST_TRIANGLES:
            return
        offsets = np.cumsum([0, *(len(part["vertices"]) for part in parts[:-1])])
        vertices, size = _boxed(np.concatenate([part["vertices"] for part in parts]), entry)
        faces = [part["faces"] + offset for part, offset in zip(parts, offsets, strict=True)]
        counts = [len(part["faces"]) for part in parts]
        arrays = {
            "vertices": vertices.astype(np.float32),
            "faces": np.concatenate(faces).astype(np.int32),
            "uv": np.concatenate([part["uv"] for part in parts]).astype(np.float32),
            "material": np.repeat(np.arange(len(parts)), counts).astype(np.int32),
            "colour": np.array([part["colour"] for part in parts], dtype=np.float32),
            "skin": np.array([part["skin"] for part in parts], dtype=np.int32),
        }
        index = len(self.catalogue)
        self.tensors |= {f"{index}.{name}": array for name, array in arrays.items()}
        top = float(entry.get("dropOnTopElevation", -1)) / 100
        described = {
            "name": entry["name"],
            "category": entry["category"],
            "creator": entry.get("creator", ""),
            "model": entry["model"],
            "size": size,
            "elevation": float(entry.get("elevation", 0)) / 100,
            "top": top if 0 < top <= size[2] else None,
        }
        self.catalogue.append(described)

    def _part(
        self,
        mesh: o3d.geometry.TriangleMesh,
        material: o3d.visualization.rendering.MaterialRecord,
    ) -> dict[str, Any] | None:
        """The triangles of one material; None where it is mostly see-through or empty."""
        faces = np.asarray(mesh.triangles)
        colour, opacity = material.base_color[:3], 1.0
        picture = None if material.albedo_img is None else np.asarray(material.albedo_img)
        if picture is not None and (picture.ndim != 3 or not mesh.has_triangle_uvs()):
            picture = None
        if picture is not None and picture.shape[2] == 4:
            opacity = picture[..., 3].mean() / 255
        if len(faces) == 0 or opacity < _SEEN_THROUGH:
            return None
        uv = np.zeros((len(faces), 3, 2))
        if picture is not None:
            uv = np.asarray(mesh.triangle_uvs).reshape(-1, 3, 2) * (1, -1) + (0, 1)  # v downwards
        return {
            "vertices": np.asarray(mesh.vertices),
            "faces": faces,
            "uv": uv,
            "colour": np.clip(colour, 0, 1) if picture is None else np.ones(3),
            "skin": self._skin(_WHITE if picture is None else picture[..., :3]),
        }

    def _skin(self, picture: NDArray[np.uint8]) -> int:
        digest = hashlib.sha256(np.ascontiguousarray(picture).tobytes()).hexdigest()
        if digest not in self.skins:
            self.skins[digest] = len(self.skins)
            square = Image.fromarray(picture).resize((SIZE, SIZE), Image.Resampling.LANCZOS)
            square.save(self.folder / f"{self.skins[digest]:03d}.jpg", quality=92)
        return self.skins[digest]


def fetch_things(
    folder: Path,
    package: str = PACKAGE,
    overwrite: bool = False,
    progress: ProgressCallback = no_progress,
) -> int:
    """Fills a folder with models of things for the worlds.

    Args:
        folder: gets the catalogue, the triangles, the textures, and `LICENCES.txt`.
        package: a Debian package with furniture libraries of Sweet Home 3D.
        overwrite: replace an earlier folder of things.
        progress: is told how many models have been read.

    Returns:
        how many things there are.

    Raises:
        ConfigError: Open3D is missing.
        SourceError: apt-get is missing, the package cannot be had, names no licence, or holds no libraries or
            broken ones.
        OutputError: the folder is in use or cannot be written.
    """
    o3d = import_open3d()
    with new_folder(folder, overwrite, CATALOGUE) as fresh, tempfile.TemporaryDirectory() as place:
        content = unpacked(package, Path(place), _INSTEAD)
        terms = licence(package, content)
        libraries = sorted(content.glob(_LIBRARIES))
        if not libraries:
            raise SourceError(f"package {package} holds no furniture library of Sweet Home 3D")
        (fresh / SKINS).mkdir()
        collection = _Collection(fresh / SKINS)
        entries = [(each, *found) for each in libraries for found in _entries(each, Path(place))]
        with o3d.utility.VerbosityContextManager(o3d.utility.VerbosityLevel.Error):
            for index, (library, root, entry) in enumerate(entries):
                progress(f"reading {library.name}", index, len(entries))
                file = root / entry["model"].strip("/")
                collection.add(entry, o3d.io.read_triangle_model(str(file)))
        save_file(collection.tensors, fresh / GEOMETRY)
        (fresh / CATALOGUE).write_text(json.dumps(collection.catalogue, indent=1), encoding="utf-8")
        (fresh / LICENCES).write_text(_attribution(package, terms, collection.catalogue))
    return len(collection.catalogue)


def _entries(library: Path, workplace: Path) -> list[tuple[Path, dict[str, str]]]:
    """Where a library is unpacked, and what its catalogue says of each model that can be used."""
    root = workplace / library.stem
    try:
        with zipfile.ZipFile(library) as archive:
            archive.extractall(root)
        catalogue = (root / _PROPERTIES).read_text(encoding="latin-1")
    except (zipfile.BadZipFile, OSError) as error:
        raise SourceError(f"{library.name} is no library of Sweet Home 3D: {error}") from error
    entries: dict[int, dict[str, str]] = {}
    for line in catalogue.splitlines():
        if found := re.match(r"(\w+)#(\d+)=(.*)", line):
            entries.setdefault(int(found[2]), {"name": "thing"})[found[1]] = found[3].strip()
    return [(root, entry) for entry in entries.values() if _usable(entry)]


def _usable(entry: dict[str, str]) -> bool:
    """Whether an entry of a catalogue describes something that stands or hangs."""
    if not entry.keys() >= {"category", "model", "width", "depth", "height"}:
        return False
    return entry["category"] not in _SKIPPED and float(entry["height"]) / 100 >= _FLAT


def _boxed(vertices: Array, entry: dict[str, str]) -> tuple[Array, list[float]]:
    """Vertices (V, 3) in the unit box of `Thing.vertices`, and width, depth and height in metres."""
    rotation = np.array(entry.get("modelRotation", "1 0 0 0 1 0 0 0 1").split(), float)
    turned = vertices @ (_UPRIGHT @ rotation.reshape(3, 3)).T
    size = [float(entry[side]) / 100 for side in ("width", "depth", "height")]
    if entry["category"] == "Vehicles" and size[1] > size[0]:  # as cars are parked
        turned, size = turned @ _ALONG.T, [size[1], size[0], size[2]]
    low, high = turned.min(0), turned.max(0)
    unit = (turned - low) / np.maximum(high - low, 1e-9)
    return unit - np.array([0.5, 0.5, 0.0]), size


def _attribution(package: str, terms: str, catalogue: list[dict[str, Any]]) -> str:
    head = (
        f"Debian package {package}: {len(catalogue)} models, converted, their textures resized. "
        "Its copyright file:"
    )
    lines = [f"{each['model']}: {each['name']}, by {each['creator']}" for each in catalogue]
    return "\n".join([head, "", terms, *lines])
