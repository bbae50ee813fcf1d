"""Welding the parts of a surface into one mesh on disk."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mem3r_open3d.config import FusionConfig
from mem3r_open3d.extract import SurfacePart, surface_parts
from mem3r_open3d.islands import without_islands
from mem3r_open3d.kernels import neighbours
from mem3r_open3d.mesh_files import FACE, VERTEX, WRITERS, Records
from mem3r_open3d.store import BlockStore
from mem3r_open3d.volume import BLOCK_BYTES
from mem3r_plugin.errors import ConfigError
from mem3r_plugin.exports.files import export_errors
from mem3r_plugin.files import atomic_path
from mem3r_plugin.progress import ProgressCallback, no_progress


@dataclass(frozen=True)
class MeshConfig:
    """How a surface is taken from a fused volume."""

    min_weight: float = 0.1
    """Voxels seen with less weight in all make no surface; a fully confident frame counts about 1."""
    min_island: int = 0
    """Leave out pieces of fewer triangles that hang together with nothing else."""
    points: bool = False
    """Write points with normals in place of triangles; .ply only."""

    def check(self, output: Path) -> None:
        """Refuse what cannot be written.

        Raises:
            ConfigError: the ending of `output` is unknown, or the options do not fit it.
        """
        if output.suffix not in WRITERS:
            raise ConfigError(f"{output} must end in {', '.join(WRITERS)}")
        if self.points and output.suffix != ".ply":
            raise ConfigError(f"{output}: points are written as .ply only")
        if self.min_island < 0 or self.min_weight < 0:
            raise ConfigError("min_island and min_weight must not be below 0")


def write_surface(
    store: BlockStore,
    fusion: FusionConfig,
    config: MeshConfig,
    output: Path,
    progress: ProgressCallback = no_progress,
) -> tuple[int, int]:
    """Extract the surface of a volume and write it.

    Memory does not grow with the surface, but for 12 bytes a vertex where islands are to be removed.

    Args:
        store: The volume.
        fusion: The options it was made with.
        config: How to extract.
        output: A .ply, .glb or .obj file, replaced as a whole.
        progress: Told what is being done.

    Returns:
        The number of vertices and of faces.

    Raises:
        OutputError: the disk is full or cannot be written.
        ConfigError: see `MeshConfig.check`.
    """
    config.check(output)
    assert fusion.voxel is not None
    cached_blocks = fusion.memory_bytes // 3 // BLOCK_BYTES
    parts = surface_parts(store, fusion.voxel, config.min_weight, cached_blocks)
    total = len(store.regions)
    with export_errors(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as name:
            folder = Path(name)
            with _Weld(folder) as weld:
                for done, part in enumerate(parts, start=1):
                    weld.add(part)
                    progress("extracting the surface", done, total)
            store.commit()
            vertices, faces = weld.vertices, weld.faces
            if config.min_island:
                vertices, faces = without_islands(vertices, faces, config.min_island, folder)
            with atomic_path(output) as temporary:
                WRITERS[output.suffix](temporary, vertices, None if config.points else faces)
            return vertices.count, 0 if config.points else faces.count


class _Weld:
    """Joins parts at their shared vertices; vertices and faces go to files at once."""

    def __init__(self, folder: Path) -> None:
        self._vertex_path, self._face_path = folder / "vertices", folder / "faces"
        self._vertex_file = self._vertex_path.open("wb")
        self._face_file = self._face_path.open("wb")
        self._vertex_count = self._face_count = 0
        # By region: positions and numbers of the vertices that regions to come may share.
        self._seams: dict[int, tuple[NDArray[np.void], NDArray[np.int64]]] = {}
        self._over_after: dict[int, int] = {}  # the last region that may share them

    def __enter__(self) -> _Weld:
        return self

    def __exit__(self, *_: object) -> None:
        self._vertex_file.close()
        self._face_file.close()

    @property
    def vertices(self) -> Records:
        """The vertices so far."""
        return Records(self._vertex_path, VERTEX, self._vertex_count)

    @property
    def faces(self) -> Records:
        """The faces so far."""
        return Records(self._face_path, FACE, self._face_count)

    def add(self, part: SurfacePart) -> None:
        """Append a part."""
        place = np.full(len(part.positions), -1)
        seam = np.flatnonzero(part.shared)
        seam_keys = np.ascontiguousarray(part.positions[seam]).view("V12").ravel()
        around = neighbours(np.array([part.region]))[0].tolist()
        for region in around:
            if region in self._seams:
                keys, numbers = self._seams[region]
                _, mine, theirs = np.intersect1d(
                    seam_keys, keys, assume_unique=True, return_indices=True
                )
                place[seam[mine]] = numbers[theirs]
        fresh = np.flatnonzero(place < 0)
        place[fresh] = self._vertex_count + np.arange(len(fresh))
        self._forget_before(part.region)
        self._seams[part.region] = seam_keys, place[seam]
        self._over_after[part.region] = max(around)
        records = np.empty(len(fresh), VERTEX)
        records["position"] = part.positions[fresh]
        records["normal"] = part.normals[fresh]
        records["color"] = part.colors[fresh]
        records.tofile(self._vertex_file)
        place[part.faces].astype("<i4").tofile(self._face_file)
        self._vertex_count += len(fresh)
        self._face_count += len(part.faces)

    def _forget_before(self, region: int) -> None:
        """Drop the seams that no region from this one on can share, given that regions come in order."""
        for key in [key for key, last in self._over_after.items() if last < region]:
            del self._seams[key], self._over_after[key]
