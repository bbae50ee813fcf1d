"""What loops are worth: a walk round a corridor and past its start, refined with and without them.

    python benchmarks/loop.py --work /tmp/loop

Renders the walk (worlds of `mem3r_plugin.training.worlds` that are never trained on), makes a scan of it
with the bundled weights, and poses it four times: by the pose graph alone and by all of `mem3r refine`,
each with and without loops. Prints a Markdown table and leaves a picture of the paths in the work
folder. What is there already is not made again.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2  # noqa: F401  (before pycolmap)
import numpy as np
import torch

from mem3r_plugin.evaluation import PosedSequence, trajectory_errors
from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.geometry.alignment import umeyama
from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.pictures.trajectory import draw_paths
from mem3r_plugin.refine.depth.network import sample_depth
from mem3r_plugin.refine.graph.edges import read_matches
from mem3r_plugin.refine.graph.keyframe_graph import place_keyframes
from mem3r_plugin.refine.keyframes.matching import MatchingConfig
from mem3r_plugin.refine.poses import PoseConfig, refine_poses
from mem3r_plugin.scan import Scan
from mem3r_plugin.stream.run import RunConfig, run
from mem3r_plugin.training.worlds import HELD_BACK, sample_sequence, write_sequence

WITHOUT = MatchingConfig(loops=0, overlapping=0, exhaustive_below=0)
"""Neighbours in time only."""


@dataclass(frozen=True)
class Result:
    """One way to pose the walk."""

    name: str
    poses: FloatArray
    true: FloatArray
    note: str
    seconds: float

    @property
    def ate(self) -> float:
        """Metres, after alignment by a similarity."""
        return trajectory_errors(self.poses, self.true).ate_rmse

    @property
    def path(self) -> FloatArray:
        """Camera centres aligned to the true ones, (n, 3)."""
        centres = self.poses[:, :3, 3]
        return umeyama(centres, self.true[:, :3, 3]).points(centres)


def main() -> None:
    """Pose the walk in every way; print the table, draw the paths."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for everything")
    parser.add_argument("--frames", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0, help="which of the held-back worlds")
    options = parser.parse_args()
    scan, truth = walk(options.work, options.frames, options.seed)
    results = measure(scan, truth.camera_to_world, options.work)
    print(f"| {len(scan)} frames, {truth_length(truth):.0f} m | ATE, m | seconds | |")
    print("|---|---|---|---|")
    for result in results:
        print(f"| {result.name} | {result.ate:.3f} | {result.seconds:.0f} | {result.note} |")
    draw(results[-2:], options.work / "loop.png")
    record = {result.name: {"ate": result.ate, "seconds": result.seconds} for result in results}
    (options.work / "loop.json").write_text(json.dumps(record, indent=2) + "\n")


def walk(
    work: Path, frames: int, seed: int, size: tuple[int, int] = (224, 160)
) -> tuple[Scan, PosedSequence]:
    """A walk past its start, and the scan that the bundled weights make of it."""
    if not (work / "truth" / "meta.json").exists():
        write_sequence(sample_sequence(HELD_BACK + seed, frames, size, "loop"), work / "truth")
    if not (work / "scan" / "scan.json").exists():
        run(RunConfig(str(work / "truth" / "rgb"), work / "scan"), silent=True)
    return Scan.open(work / "scan"), PosedSequence.load(work / "truth")


def measure(scan: Scan, true: FloatArray, work: Path) -> list[Result]:
    """The network alone; the pose graph and all of the refinement, without loops and with them."""
    network = np.stack([frame.camera_to_world for frame in scan.frames])
    results = [Result("mem3r run", network, true, "", 0.0)]
    refined = []
    for name, config in (("without", PoseConfig(matching=WITHOUT)), ("with", PoseConfig())):
        start = time.process_time()
        posed, report = refine_poses(scan, work / name, config)
        seconds = time.process_time() - start
        note = f"{report.loops_confirmed} of {report.loops_tried} loops confirmed, {report.pieces} pieces"
        refined.append(Result(f"refined {name} loops", posed.camera_to_world, true, note, seconds))
        results.append(_graph(scan, posed.camera, true, work / name, name))
    return [*results, *refined]


def _graph(scan: Scan, camera: Intrinsics, true: FloatArray, workspace: Path, name: str) -> Result:
    """Keyframes by the pose graph alone, at the camera that the refinement found."""
    matches = list(read_matches(workspace / "database.db"))
    keyframes = sorted({frame for pair in matches for frame in (pair.first, pair.second)})
    network = np.stack([frame.camera_to_world for frame in scan.frames])
    start = time.process_time()
    graph = place_keyframes(
        camera, keyframes, matches, network, partial(sample_depth, scan), name == "with"
    )
    poses = np.stack([graph.camera_to_world[frame] for frame in keyframes])
    note = f"{len(graph.contradicted)} of {graph.loops} loop edges rejected"
    seconds = time.process_time() - start
    return Result(f"pose graph {name} loops", poses, true[keyframes], note, seconds)


def truth_length(truth: PosedSequence) -> float:
    """Metres walked."""
    steps = np.diff(truth.camera_to_world[:, :3, 3], axis=0)
    return float(np.linalg.norm(steps, axis=1).sum())


def draw(results: list[Result], file: Path) -> None:
    """The paths from above and from the side, beside the true one."""
    colours = ("tab:red", "tab:blue")
    paths = [("truth", results[0].true[:, :3, 3], "0.55")]
    paths += [
        (f"{result.name}, ATE {result.ate:.2f} m", result.path, colour)
        for result, colour in zip(results, colours, strict=True)
    ]
    draw_paths(paths, f"a walk of {len(results[0].true)} frames past its start", file)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
