"""Blocks and fused frames on disk.

One SQLite file holds everything: a transaction is a checkpoint, so a killed fusion, or one that met a
full disk, is found as its last checkpoint left it, with blocks and frames that belong together.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mem3r_open3d.kernels import VOXELS
from mem3r_plugin.errors import OutputError, ScanError
from mem3r_plugin.geometry import Intrinsics

_FORMAT = "mem3r-tsdf"
_VERSION = 2
_CACHE_BYTES = 32_000_000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS regions (
    key INTEGER PRIMARY KEY, blocks INTEGER NOT NULL, data BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS surface (
    region INTEGER PRIMARY KEY, min_weight REAL NOT NULL, data BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS frames (
    position INTEGER PRIMARY KEY, digest TEXT NOT NULL, scan TEXT NOT NULL, camera TEXT NOT NULL,
    camera_to_world BLOB NOT NULL);
"""


@dataclass(frozen=True)
class Blocks:
    """The content of n blocks."""

    keys: NDArray[np.int64]
    """Packed block coordinates, shape (n,)."""
    tsdf: NDArray[np.float32]
    """Signed distance over truncation, shape (n, 512)."""
    weight: NDArray[np.float32]
    """Sum of weights, shape (n, 512); 0 = never seen."""
    color: NDArray[np.float32]
    """Mean RGB from 0 to 255, shape (n, 512, 3)."""

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, chosen: NDArray[np.intp]) -> Blocks:
        return Blocks(self.keys[chosen], self.tsdf[chosen], self.weight[chosen], self.color[chosen])

    @classmethod
    def concatenate(cls, parts: Iterable[Blocks]) -> Blocks:
        """All blocks of several groups."""
        parts = [_NOTHING, *parts]
        return cls(
            np.concatenate([part.keys for part in parts]),
            np.concatenate([part.tsdf for part in parts]),
            np.concatenate([part.weight for part in parts]),
            np.concatenate([part.color for part in parts]),
        )

    def encode(self) -> bytes:
        """As bytes, with nothing for voxels that were never seen."""
        seen = self.weight > 0
        arrays = (
            self.keys,
            np.packbits(seen),
            self.tsdf[seen],
            self.weight[seen],
            self.color[seen],
        )
        return b"".join(array.tobytes() for array in arrays)

    @classmethod
    def decode(cls, count: int, data: bytes) -> Blocks:
        """The inverse of `encode` for `count` blocks."""
        keys = np.frombuffer(data, np.int64, count)
        mask = np.frombuffer(data, np.uint8, count * VOXELS // 8, offset=keys.nbytes)
        seen = np.unpackbits(mask).reshape(count, VOXELS).astype(bool)
        values = np.frombuffer(data, np.float32, offset=keys.nbytes + mask.nbytes)
        observed = len(values) // 5
        tsdf, weight = np.zeros((2, count, VOXELS), np.float32)
        color = np.zeros((count, VOXELS, 3), np.float32)
        tsdf[seen] = values[:observed]
        weight[seen] = values[observed : 2 * observed]
        color[seen] = values[2 * observed :].reshape(-1, 3)
        return cls(keys, tsdf, weight, color)


_NOTHING = Blocks(
    np.empty(0, np.int64),
    np.empty((0, VOXELS), np.float32),
    np.empty((0, VOXELS), np.float32),
    np.empty((0, VOXELS, 3), np.float32),
)


@dataclass(frozen=True)
class FusedFrame:
    """What is needed to recognise a fused frame and to take it out again."""

    position: int
    """Index in its scan."""
    digest: str
    """Of depth, confidence, camera and pose, as they were fused."""
    scan: Path
    """The scan that its depth is read from."""
    intrinsics: Intrinsics
    """The camera of its depth map."""
    camera_to_world: NDArray[np.float64]
    """Pose, shape (4, 4)."""


def remove_store(path: Path) -> None:
    """Remove the file of a fusion, and the journal that a killed one leaves beside it."""
    for file in (path, path.with_name(f"{path.name}-journal")):
        file.unlink(missing_ok=True)


class BlockStore:
    """The file of a fusion. Use it in a `with` block; what was not committed is then undone.

    Args:
        path: The SQLite file; made where it does not exist.

    Raises:
        OutputError: the file cannot be written, or another fusion is writing it.
        ScanError: it is damaged, or no fusion.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._failed = False
        with self._errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            # Used by one thread at a time.
            self._database = sqlite3.connect(
                path, isolation_level=None, timeout=0, check_same_thread=False
            )
            self._database.execute("PRAGMA page_size = 65536")
            self._database.execute(f"PRAGMA cache_size = -{_CACHE_BYTES // 1000}")
            self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._database.execute("PRAGMA journal_mode = DELETE")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.executescript(_SCHEMA)
            self._database.execute("BEGIN IMMEDIATE")
            rows = self._database.execute("SELECT key, blocks FROM regions").fetchall()
        self._counts: dict[int, int] = dict(rows)
        if self.read("format", {"name": _FORMAT, "version": _VERSION})["version"] != _VERSION:
            raise ScanError(f"{path} is a fusion of another version; start again with --overwrite")
        self.note("format", {"name": _FORMAT, "version": _VERSION})

    def __enter__(self) -> BlockStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Undo what was not committed; a file without any fused frame is removed."""
        if self._failed:
            return
        with self._errors():
            self._database.execute("ROLLBACK")
            empty = self._database.execute("SELECT 1 FROM frames LIMIT 1").fetchone() is None
            self._database.close()
        if empty:
            remove_store(self.path)

    # -- blocks ----------------------------------------------------------------------------

    @property
    def regions(self) -> list[int]:
        """Keys of the regions that hold blocks, rising."""
        return sorted(self._counts)

    def count(self, region: int) -> int:
        """How many blocks of a region are on disk."""
        return self._counts.get(region, 0)

    def load(self, region: int) -> Blocks:
        """The blocks of a region; none where it holds none."""
        if region not in self._counts:
            return _NOTHING
        with self._errors():
            row = self._database.execute(
                "SELECT blocks, data FROM regions WHERE key = ?", (region,)
            ).fetchone()
        return Blocks.decode(*row)

    def save(self, region: int, blocks: Blocks) -> None:
        """Replace what is on disk of a region."""
        with self._errors():
            if len(blocks) == 0:
                self._database.execute("DELETE FROM regions WHERE key = ?", (region,))
                self._counts.pop(region, None)
                return
            self._database.execute(
                "INSERT OR REPLACE INTO regions VALUES (?, ?, ?)",
                (region, len(blocks), blocks.encode()),
            )
            self._counts[region] = len(blocks)

    def clear(self) -> None:
        """Take out all blocks and frames."""
        with self._errors():
            for table in ("regions", "surface", "frames"):
                self._database.execute(f"DELETE FROM {table}")
        self._counts.clear()

    # -- surface ---------------------------------------------------------------------------------

    def load_surface(self, region: int, min_weight: float) -> bytes | None:
        """What `save_surface` kept of a region with the same `min_weight`, unless it was forgotten."""
        with self._errors():
            row = self._database.execute(
                "SELECT data FROM surface WHERE region = ? AND min_weight = ?", (region, min_weight)
            ).fetchone()
        return None if row is None else row[0]

    def surfaces(self) -> Iterator[tuple[int, bytes]]:
        """What is kept of all regions, rising."""
        for region in self.regions:
            with self._errors():
                row = self._database.execute(
                    "SELECT data FROM surface WHERE region = ?", (region,)
                ).fetchone()
            if row is not None:
                yield region, row[0]

    def save_surface(self, region: int, min_weight: float, data: bytes) -> None:
        """Keep the surface of a region."""
        with self._errors():
            self._database.execute(
                "INSERT OR REPLACE INTO surface VALUES (?, ?, ?)", (region, min_weight, data)
            )

    def forget_surface(self, regions: Iterable[int]) -> None:
        """Drop what was kept of the surface of some regions."""
        with self._errors():
            self._database.executemany(
                "DELETE FROM surface WHERE region = ?", ((region,) for region in regions)
            )

    # -- frames and notes ----------------------------------------------------------------------

    def frames(self) -> dict[int, FusedFrame]:
        """All fused frames by position."""
        with self._errors():
            rows = self._database.execute("SELECT * FROM frames ORDER BY position").fetchall()
        return {
            position: FusedFrame(
                position,
                digest,
                Path(scan),
                Intrinsics(**json.loads(camera)),
                np.frombuffer(pose, np.float64).reshape(4, 4).copy(),  # writable
            )
            for position, digest, scan, camera, pose in rows
        }

    def add_frame(self, frame: FusedFrame) -> None:
        """Note that a frame is fused."""
        pose = np.ascontiguousarray(frame.camera_to_world, np.float64).tobytes()
        camera = json.dumps(vars(frame.intrinsics))
        with self._errors():
            self._database.execute(
                "INSERT INTO frames VALUES (?, ?, ?, ?, ?)",
                (frame.position, frame.digest, str(frame.scan), camera, pose),
            )

    def remove_frame(self, position: int) -> None:
        """Note that a frame was taken out."""
        with self._errors():
            self._database.execute("DELETE FROM frames WHERE position = ?", (position,))

    def note(self, name: str, value: Any) -> None:
        """Keep a value that JSON can hold."""
        with self._errors():
            self._database.execute(
                "INSERT OR REPLACE INTO about VALUES (?, ?)", (name, json.dumps(value))
            )

    def read(self, name: str, default: Any = None) -> Any:
        """A value kept by `note`."""
        with self._errors():
            row = self._database.execute(
                "SELECT value FROM about WHERE name = ?", (name,)
            ).fetchone()
        return default if row is None else json.loads(row[0])

    # -- the file itself ---------------------------------------------------------------------

    def commit(self) -> None:
        """Make everything so far the state that a killed fusion goes on from.

        Raises:
            OutputError: the disk is full; the commit before stays.
        """
        with self._errors():
            self._database.execute("COMMIT")
            self._database.execute("BEGIN IMMEDIATE")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn what SQLite and the operating system report into errors for the user."""
        try:
            yield
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror or error}") from error
        except sqlite3.DatabaseError as error:
            # SQLite may have undone the transaction: nothing more must be written as if it were whole.
            self._failed = True
            self._database.close()
            raise self._explain(error) from error

    def _explain(self, error: sqlite3.DatabaseError) -> OutputError | ScanError:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith("SQLITE_FULL"):
            return OutputError(
                f"the disk is full, cannot write {self.path}; what was fused up to the last checkpoint "
                "is kept: make room and continue with --resume"
            )
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return OutputError(f"{self.path} is in use by another fusion; wait for it to end")
        if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
            return ScanError(
                f"{self.path} is damaged or no fusion ({error}); start again with --overwrite"
            )
        return OutputError(f"cannot write {self.path}: {error}")
