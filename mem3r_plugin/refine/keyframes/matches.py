"""Pictures and verified matches of the keyframes, in the workspace of a refinement."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pycolmap

from mem3r_plugin.files import write_atomically
from mem3r_plugin.progress import ProgressCallback
from mem3r_plugin.refine.keyframes.choice import Grey, KeyframeConfig, KeyframeSelector
from mem3r_plugin.refine.keyframes.matching import (
    MatchingConfig,
    Pairs,
    extract_features,
    match_pairs,
    reject_weak_pairs,
)
from mem3r_plugin.refine.keyframes.pairs import choose_pairs
from mem3r_plugin.refine.keyframes.picture_names import frame_of, picture_name
from mem3r_plugin.scan import Scan


@dataclass(frozen=True)
class LoopCandidates:
    """Pairs of frames that may show the same place though they are far apart in time."""

    tried: int
    """Pairs that were matched."""
    confirmed: frozenset[tuple[int, int]]
    """Frames of those whose features agree with one camera motion."""


def write_keyframes(
    scan: Scan, folder: Path, config: KeyframeConfig, progress: ProgressCallback
) -> list[str]:
    """Grey pictures of the keyframes, named by their frame; returns the names."""
    listing = folder / "names.json"
    if listing.exists():
        return list(json.loads(listing.read_text()))
    folder.mkdir(exist_ok=True)
    selector = KeyframeSelector(config)
    names = []
    for index in range(len(scan)):
        progress("choosing keyframes", index, len(scan))
        grey = read_grey(scan, index)
        if len(scan) < config.all_below or selector.offer_frame(scan, index, grey):
            names.append(picture_name(index))
            encoded = cv2.imencode(".png", grey, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
            write_atomically(folder / names[-1], encoded.tobytes())
    write_atomically(listing, json_bytes(names))
    return names


def match_keyframes(
    scan: Scan,
    workspace: Path,
    names: list[str],
    config: MatchingConfig,
    progress: ProgressCallback,
) -> LoopCandidates:
    """Fill the workspace's database with features and verified matches."""
    record, database = workspace / "loops.json", workspace / "database.db"
    if record.exists():
        found = json.loads(record.read_text())
        return LoopCandidates(found["tried"], frozenset((i, j) for i, j in found["confirmed"]))
    pairs, loops = _chosen_pairs(scan, workspace, names, config, progress)
    progress(f"matching features of {len(pairs | loops)} pairs of keyframes", 0, 0)
    match_pairs(database, names, pairs | loops)
    reject_weak_pairs(database, names, pairs, config.min_inliers)
    frames = [frame_of(name) for name in names]
    kept = reject_weak_pairs(database, names, loops, config.min_loop_inliers)
    confirmed = sorted((frames[i], frames[j]) for i, j in kept)
    write_atomically(record, json_bytes({"tried": len(loops), "confirmed": confirmed}))
    return LoopCandidates(len(loops), frozenset(confirmed))


def _chosen_pairs(
    scan: Scan,
    workspace: Path,
    names: list[str],
    config: MatchingConfig,
    progress: ProgressCallback,
) -> tuple[Pairs, Pairs]:
    """Pairs to match; the features are in the database once these are written down."""
    record, database = workspace / "pairs.json", workspace / "database.db"
    if record.exists():
        found = json.loads(record.read_text())
        return {(i, j) for i, j in found["near"]}, {(i, j) for i, j in found["loops"]}
    progress(f"finding features of {len(names)} keyframes", 0, 0)
    for file in workspace.glob("database.db*"):
        file.unlink()
    known = scan.header.camera_origin == "given"
    pycolmap.set_random_seed(0)
    pictures = workspace / "pictures"
    extract_features(database, pictures, names, scan.camera, known, config.max_features)
    pairs, loops = choose_pairs(scan, database, names, config)
    write_atomically(record, json_bytes({"near": sorted(pairs), "loops": sorted(loops)}))
    return pairs, loops


def read_grey(scan: Scan, index: int) -> Grey:
    """The grey picture (H, W) of a frame."""
    return np.asarray(cv2.cvtColor(scan.image(index), cv2.COLOR_RGB2GRAY))


def json_bytes(record: Any) -> bytes:
    """A record as a text file holds it."""
    return (json.dumps(record, indent=2) + "\n").encode()
