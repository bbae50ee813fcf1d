"""From the pictures and predicted poses of a scan to refined ones.

Keyframes are matched; a pose graph places them; they are mapped, from there or from nothing; and
the graph, with the map held fixed, places every other frame.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import cv2  # noqa: F401  (before pycolmap, which brings another zlib)
import numpy as np
import pycolmap

from mem3r_plugin.files import write_atomically
from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.progress import ProgressCallback, no_progress
from mem3r_plugin.refine.depth.network import sample_depth
from mem3r_plugin.refine.graph.edges import MatchedPair, read_matches
from mem3r_plugin.refine.graph.loops import explained_pairs
from mem3r_plugin.refine.keyframes.choice import KeyframeConfig
from mem3r_plugin.refine.keyframes.matches import (
    LoopCandidates,
    json_bytes,
    match_keyframes,
    read_grey,
    write_keyframes,
)
from mem3r_plugin.refine.keyframes.matching import MatchingConfig
from mem3r_plugin.refine.keyframes.picture_names import frame_of
from mem3r_plugin.refine.mapping.keyframe_map import map_scan, straightened
from mem3r_plugin.refine.mapping.structure import BENT, MappingConfig, SparseMap, Way
from mem3r_plugin.refine.placement import Placement, place_frames
from mem3r_plugin.refine.posed import PosedFrames, Support, gather_sightings
from mem3r_plugin.refine.track_frames import TrackedFrame, track_frames
from mem3r_plugin.scan import Scan

_BELIEVED = 0.3  # of the network's lengths; below, they are mostly noise


@dataclass(frozen=True)
class PoseConfig:
    """How poses are refined."""

    keyframes: KeyframeConfig = field(default_factory=KeyframeConfig)
    """Which frames are matched and adjusted."""
    matching: MatchingConfig = field(default_factory=MatchingConfig)
    """Which of them are matched with which."""
    mapping: MappingConfig = field(default_factory=MappingConfig)
    """What is found out about the camera."""


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
    """Frames posed by map points that were followed into them, or by features matched with posed ones."""
    carried: int
    """Frames without such evidence, placed by the network's motion from their neighbours."""
    pieces: int
    """Rigid pieces that mapping held together; more than one were joined by the pose graph."""
    way: Way | None
    """How the largest piece was mapped: from the pose graph's poses, or from nothing."""
    loops_tried: int
    """Pairs matched because they look alike or are predicted to overlap."""
    loops_confirmed: int
    """Those whose features agreed with one camera motion; the others were rejected."""
    loops_contradicted: int
    """Those of the confirmed whose features the refined poses cannot explain: false after all."""
    reprojection_error: float | None
    """Mean over the observations of the largest piece, in pixels."""
    track_length: float | None
    """Mean number of keyframes that see a point of the largest piece."""
    focal: float
    """Shared focal length, in original pixels."""
    prior_deviation: float | None
    """Standard deviation given to the network's positions as priors, in usual steps between keyframes;
    None: they had no weight."""
    warnings: tuple[str, ...]
    """What a user should know, one sentence each."""

    @classmethod
    def load(cls, file: Path) -> PoseReport:
        """Read what `refine_poses` left."""
        record = json.loads(file.read_text())
        return cls(**{**record, "warnings": tuple(record["warnings"])})


def refine_poses(
    scan: Scan, workspace: Path, config: PoseConfig, progress: ProgressCallback = no_progress
) -> tuple[PosedFrames, PoseReport]:
    """Refined poses of every frame of a scan; each stage that is done is kept in `workspace`.

    Args:
        scan: Gives pictures, predicted poses and depth; it is only read.
        workspace: Folder for the stages. Called again after an interruption, with the same
            configuration, the work goes on after the last finished one.
        config: How.
        progress: Is told how far it is.
    """
    poses_file, report_file = workspace / "poses.npz", workspace / "poses.json"
    if report_file.exists():
        return PosedFrames.load(poses_file), PoseReport.load(report_file)
    workspace.mkdir(parents=True, exist_ok=True)
    pycolmap.logging.minloglevel = 2  # its INFO lines are for its own developers
    names = write_keyframes(scan, workspace / "pictures", config.keyframes, progress)
    loops = match_keyframes(scan, workspace, names, config.matching, progress)
    matches = list(read_matches(workspace / "database.db"))
    keyframes = [frame_of(name) for name in names]
    maps = map_scan(scan, workspace, keyframes, matches, config.mapping, progress)
    posed, placement = _pose_all(scan, maps, matches, progress)
    report = PoseReport(
        frames=len(scan),
        keyframes=len(names),
        mapped=posed.count("mapped"),
        tracked=posed.count("tracked"),
        carried=posed.count("carried"),
        pieces=len(maps),
        way=maps[0].way if maps else None,
        loops_tried=loops.tried,
        loops_confirmed=len(loops.confirmed),
        loops_contradicted=_contradicted(scan, posed, matches, loops) if maps else 0,
        reprojection_error=maps[0].reprojection_error if maps else None,
        track_length=maps[0].track_length if maps else None,
        focal=float(posed.camera.fx),
        prior_deviation=maps[0].prior_deviation if maps else None,
        warnings=tuple(_warnings(scan, placement, maps)),
    )
    posed.save(poses_file)
    write_atomically(report_file, json_bytes(asdict(report)))
    return posed, report


def _pose_all(
    scan: Scan, maps: list[SparseMap], matches: Sequence[MatchedPair], progress: ProgressCallback
) -> tuple[PosedFrames, Placement | None]:
    """Poses of all frames around the maps, in the network's unit of length."""
    predicted = _predicted(scan)
    if not maps:
        carried: list[Support] = ["carried"] * len(scan)
        nothing = gather_sightings({}, [])
        points = np.zeros((0, 3))
        return PosedFrames(scan.camera, predicted, tuple(carried), points, *nothing), None
    undistortion = maps[0].undistortion
    scan, matches = straightened(scan, matches, undistortion)
    tracked = [_track(scan, piece, progress) for piece in maps]
    progress("placing all frames", 0, 0)
    placement = place_frames(maps, tracked, predicted, matches, partial(sample_depth, scan))
    posed = PosedFrames(
        maps[0].camera,
        placement.camera_to_world,
        placement.support,
        placement.points,
        *gather_sightings(placement.sightings, sorted(placement.sightings)),
        undistortion,
    )
    return posed.scaled(_unit(scan, posed)), placement


def _predicted(scan: Scan) -> FloatArray:
    return np.stack([frame.camera_to_world for frame in scan.frames])


def _track(scan: Scan, piece: SparseMap, progress: ProgressCallback) -> dict[int, TrackedFrame]:
    def advance(frame: int) -> None:
        progress("following map points into the other frames", frame, len(scan))

    return track_frames(piece, len(scan), partial(read_grey, scan), advance)


def _contradicted(
    scan: Scan, posed: PosedFrames, matches: Sequence[MatchedPair], loops: LoopCandidates
) -> int:
    confirmed = [pair for pair in matches if (pair.first, pair.second) in loops.confirmed]
    _, pairs = straightened(scan, confirmed, posed.undistortion)
    poses = dict(enumerate(posed.camera_to_world))
    return int((~explained_pairs(posed.camera, poses, pairs)).sum())


def _unit(scan: Scan, posed: PosedFrames) -> float:
    """What makes triangulated depths agree with the network's, in the median over all sightings."""
    ratios = []
    for index in np.unique(posed.frames).tolist():
        pixels, depth = posed.seen(index)
        network = sample_depth(scan, index, pixels)
        ratios.append((network / depth)[network > 0])
    known = np.concatenate(ratios) if ratios else np.zeros(0)
    return float(np.median(known)) if known.size else 1.0


def _warnings(scan: Scan, placement: Placement | None, maps: list[SparseMap]) -> list[str]:
    if placement is None:
        return [
            "no two keyframes share enough texture to be matched: all poses are the network's own; "
            "film with more light, slower, and with something to see in every picture"
        ]
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
            f"frames {scan.frames[first].name} to {scan.frames[last].name} share too little with the "
            "rest; how they lie to it is known from the network alone: film the places between again, "
            "slower"
        )
    if maps[0].bend > BENT:
        warnings.append(
            f"the pictures look bent by {maps[0].bend:.0f} pixels in the corners and were not straightened: "
            "`--radial always` tries harder"
        )
    return warnings


def _runs(support: tuple[Support, ...]) -> list[tuple[int, int]]:
    """First and last frame of every run of carried frames."""
    carried = np.array([False, *(value == "carried" for value in support), False]).astype(int)
    starts, ends = np.flatnonzero(np.diff(carried) == 1), np.flatnonzero(np.diff(carried) == -1)
    return list(zip(starts.tolist(), (ends - 1).tolist(), strict=True))
