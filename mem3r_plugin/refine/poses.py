"""From the pictures and predicted poses of a scan to refined ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pycolmap

from mem3r_plugin.files import write_atomically
from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.refine.edges import read_matches
from mem3r_plugin.refine.keyframes import Grey, KeyframeConfig, KeyframeSelector
from mem3r_plugin.refine.mapping import SparseMap, map_keyframes
from mem3r_plugin.refine.matching import (
    MatchingConfig,
    extract_features,
    match_pairs,
    reject_weak_pairs,
)
from mem3r_plugin.refine.pairs import choose_pairs
from mem3r_plugin.refine.placement import Placement, place_frames
from mem3r_plugin.refine.posed import PosedFrames, Support, gather_sightings
from mem3r_plugin.refine.track_frames import track_frames
from mem3r_plugin.scan import Scan

_BELIEVED = 0.3  # of the network's lengths; below, they are mostly noise


@dataclass(frozen=True)
class PoseConfig:
    """How poses are refined."""

    keyframes: KeyframeConfig = field(default_factory=KeyframeConfig)
    """Which frames are matched and adjusted."""
    matching: MatchingConfig = field(default_factory=MatchingConfig)
    """Which of them are matched with which."""


@dataclass(frozen=True)
class PoseReport:
    """What became of the poses."""

    frames: int
    """Frames of the scan; all of them have a pose."""
    keyframes: int
    """Frames chosen to be matched and adjusted."""
    mapped: int
    """Frames posed by bundle adjustment."""
    tracked: int
    """Frames posed by map points that were followed into them."""
    carried: int
    """Frames without a map point, carried along with their neighbours."""
    pieces: int
    """Rigid pieces that matching held together; more than one were joined by the predicted poses."""
    loops_tried: int
    """Pairs matched because they look alike or are predicted to overlap."""
    loops_confirmed: int
    """Those whose features agreed with one camera motion; the others were rejected."""
    reprojection_error: float | None
    """Mean over the observations of the largest piece, in pixels."""
    track_length: float | None
    """Mean number of keyframes that see a point of the largest piece."""
    focal: float
    """Shared focal length, in original pixels."""
    warnings: tuple[str, ...]
    """What a user should know, one sentence each."""

    @classmethod
    def load(cls, file: Path) -> PoseReport:
        """Read what `refine_poses` left."""
        record = json.loads(file.read_text())
        return cls(**{**record, "warnings": tuple(record["warnings"])})


def refine_poses(
    scan: Scan, workspace: Path, config: PoseConfig, tell: Callable[[str], None]
) -> tuple[PosedFrames, PoseReport]:
    """Refined poses of every frame of a scan; each stage that is done is kept in `workspace`.

    Args:
        scan: Gives pictures, predicted poses and depth; it is only read.
        workspace: Folder for the stages. Called again after an interruption, with the same
            configuration, the work goes on after the last finished one.
        config: How.
        tell: Is told what comes next.
    """
    poses_file, report_file = workspace / "poses.npz", workspace / "poses.json"
    if report_file.exists():
        return PosedFrames.load(poses_file), PoseReport.load(report_file)
    workspace.mkdir(parents=True, exist_ok=True)
    pycolmap.logging.minloglevel = 2  # its INFO lines are for its own developers
    pictures = workspace / "pictures"
    names = _keyframe_pictures(scan, pictures, config, tell)
    loops = _match(scan, workspace, names, config.matching, tell)
    tell(f"adjusting {len(names)} keyframes")
    known = scan.header.camera_origin == "given"
    database = workspace / "database.db"
    maps = map_keyframes(database, pictures, workspace / "mapping", scan.camera, known)
    posed, warnings = _pose_all(scan, database, maps, tell)
    report = PoseReport(
        frames=len(scan),
        keyframes=len(names),
        mapped=posed.count("mapped"),
        tracked=posed.count("tracked"),
        carried=posed.count("carried"),
        pieces=len(maps),
        loops_tried=loops["tried"],
        loops_confirmed=loops["confirmed"],
        reprojection_error=maps[0].reprojection_error if maps else None,
        track_length=maps[0].track_length if maps else None,
        focal=posed.camera.fx,
        warnings=tuple(warnings),
    )
    posed.save(poses_file)
    write_atomically(report_file, _json(asdict(report)))
    return posed, report


def _keyframe_pictures(
    scan: Scan, folder: Path, config: PoseConfig, tell: Callable[[str], None]
) -> list[str]:
    """Grey pictures of the keyframes, named by their frame; returns the names."""
    listing = folder / "names.json"
    if listing.exists():
        return list(json.loads(listing.read_text()))
    tell(f"choosing keyframes among {len(scan)} frames")
    folder.mkdir(exist_ok=True)
    selector = KeyframeSelector(config.keyframes)
    names = []
    for index in range(len(scan)):
        grey = _grey(scan, index)
        if len(scan) < config.keyframes.all_below or selector.offer_frame(scan, index, grey):
            names.append(f"{index:06d}.png")
            encoded = cv2.imencode(".png", grey, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
            write_atomically(folder / names[-1], encoded.tobytes())
    write_atomically(listing, _json(names))
    return names


def _match(
    scan: Scan,
    workspace: Path,
    names: list[str],
    config: MatchingConfig,
    tell: Callable[[str], None],
) -> dict[str, int]:
    """Fill the database with features and verified matches; returns the count of loops."""
    counts_file, database = workspace / "loops.json", workspace / "database.db"
    if counts_file.exists():
        return dict(json.loads(counts_file.read_text()))
    tell(f"finding and matching features of {len(names)} keyframes")
    for file in workspace.glob("database.db*"):
        file.unlink()
    known = scan.header.camera_origin == "given"
    pictures = workspace / "pictures"
    pycolmap.set_random_seed(0)
    extract_features(database, pictures, names, scan.camera, known, config.max_features)
    pairs, loops = choose_pairs(scan, database, names, config)
    match_pairs(database, names, pairs | loops)
    reject_weak_pairs(database, names, pairs, config.min_inliers)
    confirmed = reject_weak_pairs(database, names, loops, config.min_loop_inliers)
    counts = {"tried": len(loops), "confirmed": len(confirmed)}
    write_atomically(counts_file, _json(counts))
    return counts


def _pose_all(
    scan: Scan, database: Path, maps: list[SparseMap], tell: Callable[[str], None]
) -> tuple[PosedFrames, list[str]]:
    """Poses of all frames around the maps, in the network's unit of length."""
    predicted = np.stack([frame.camera_to_world for frame in scan.frames])
    if not maps:
        return _unmapped(scan, predicted)
    tell(f"following map points into {len(scan)} frames")
    tracked = [track_frames(piece, len(scan), lambda index: _grey(scan, index)) for piece in maps]
    tell("placing all frames")
    matches = list(read_matches(database))
    placement = place_frames(maps, tracked, predicted, matches, partial(sample_depth, scan))
    sightings = gather_sightings(placement.sightings, sorted(placement.sightings))
    posed = PosedFrames(
        maps[0].camera,
        placement.camera_to_world,
        placement.support,
        placement.points,
        *sightings,
    )
    return posed.scaled(_unit(scan, posed)), _warnings(scan, placement, maps)


def _unmapped(scan: Scan, predicted: FloatArray) -> tuple[PosedFrames, list[str]]:
    """The network's own poses, where no two pictures could be matched."""
    warning = (
        "no two keyframes share enough texture to be matched: all poses are the network's own; "
        "film with more light, slower, and with something to see in every picture"
    )
    carried: list[Support] = ["carried"] * len(scan)
    nothing = gather_sightings({}, [])
    points = np.zeros((0, 3))
    return PosedFrames(scan.camera, predicted, tuple(carried), points, *nothing), [warning]


def _unit(scan: Scan, posed: PosedFrames) -> float:
    """What makes triangulated depths agree with the network's, in the median over all sightings."""
    ratios = []
    for index in np.unique(posed.frames).tolist():
        pixels, depth = posed.seen(index)
        network = sample_depth(scan, index, pixels)
        ratios.append((network / depth)[network > 0])
    known = np.concatenate(ratios) if ratios else np.zeros(0)
    return float(np.median(known)) if known.size else 1.0


def sample_depth(scan: Scan, index: int, pixels: FloatArray) -> FloatArray:
    """The scan's own depth (M,) at original pixels (M, 2); 0 = none."""
    width, height = scan.transform.target_size
    column, row = np.floor(scan.transform.pixels(pixels)).astype(np.int64).T
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    depth = np.zeros(len(pixels))
    depth[inside] = scan.depth(index)[row[inside], column[inside]]
    return depth


def _warnings(scan: Scan, placement: Placement, maps: list[SparseMap]) -> list[str]:
    follow = (
        "follow the network's motion between their neighbours"
        if placement.network.factor > _BELIEVED
        else "are spread evenly between their neighbours, as the network's motion fits no other frame"
    )
    warnings = [
        f"frames {scan.frames[start].name} to {scan.frames[end].name} see too little texture to be "
        f"placed by geometry; they {follow}"
        for start, end in _runs(placement.support)
    ]
    for rank in placement.guessed:
        first, last = min(maps[rank].poses), max(maps[rank].poses)
        warnings.append(
            f"frames {scan.frames[first].name} to {scan.frames[last].name} share no features with the "
            "rest; how they lie to it is known from the network alone: film the places between again, "
            "slower"
        )
    return warnings


def _runs(support: tuple[Support, ...]) -> list[tuple[int, int]]:
    """First and last frame of every run of carried frames."""
    carried = np.array([False, *(value == "carried" for value in support), False]).astype(int)
    starts, ends = np.flatnonzero(np.diff(carried) == 1), np.flatnonzero(np.diff(carried) == -1)
    return list(zip(starts.tolist(), (ends - 1).tolist(), strict=True))


def _grey(scan: Scan, index: int) -> Grey:
    return np.asarray(cv2.cvtColor(scan.image(index), cv2.COLOR_RGB2GRAY))


def _json(record: Any) -> bytes:
    return (json.dumps(record, indent=2) + "\n").encode()
