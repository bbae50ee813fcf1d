"""Maps on disk, so that an interrupted refinement need not map again."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from mem3r_plugin.errors import ScanError
from mem3r_plugin.files import write_atomically
from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.refine.mapping.structure import SparseMap
from mem3r_plugin.refine.posed import gather_sightings
from mem3r_plugin.refine.undistort import Undistortion

_NUMBERS = ("reprojection_error", "track_length", "way", "bend", "prior_deviation")


def save_maps(maps: Sequence[SparseMap], file: Path) -> None:
    """Write maps to an `.npz` file, whole or not at all."""
    arrays: dict[str, Any] = {"count": np.array(len(maps))}
    for rank, piece in enumerate(maps):
        order = sorted(piece.poses)
        seen, rows, pixels = gather_sightings(piece.sightings, order)
        record = {name: getattr(piece, name) for name in _NUMBERS}
        record["camera"] = asdict(piece.camera)
        record["undistortion"] = piece.undistortion and piece.undistortion.to_json()
        content = {
            "order": np.array(order, np.int64),
            "poses": np.array([piece.poses[frame] for frame in order]),
            "points": piece.points,
            "seen": seen,
            "rows": rows,
            "pixels": pixels,
            "record": np.array(json.dumps(record)),
        }
        arrays |= {f"{name}_{rank}": value for name, value in content.items()}
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    write_atomically(file, stream.getvalue())


def load_maps(file: Path) -> list[SparseMap]:
    """The inverse of `save_maps`.

    Raises:
        ScanError: the file is damaged.
    """
    try:
        with np.load(file) as stored:
            return [_load(stored, rank) for rank in range(int(stored["count"]))]
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise ScanError(f"{file} is damaged ({error}); start again with --overwrite") from error


def _load(stored: Any, rank: int) -> SparseMap:
    order = stored[f"order_{rank}"].tolist()
    seen, rows, pixels = (stored[f"{name}_{rank}"] for name in ("seen", "rows", "pixels"))
    record = json.loads(str(stored[f"record_{rank}"]))
    bent = record["undistortion"]
    return SparseMap(
        camera=Intrinsics(**record["camera"]),
        poses=dict(zip(order, stored[f"poses_{rank}"], strict=True)),
        points=stored[f"points_{rank}"],
        sightings={frame: (rows[seen == frame], pixels[seen == frame]) for frame in order},
        undistortion=bent and Undistortion.from_json(bent),
        **{name: record[name] for name in _NUMBERS},
    )
