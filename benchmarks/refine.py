"""Real sequences refined, beside pycolmap's own mapper on the same frames.

    python benchmarks/refine.py --all --work /tmp/refine
    python benchmarks/refine.py phone_fox rgbd_7scenes_redkitchen:4 --work /tmp/refine

`NAME:4` takes every fourth picture. Each sequence goes through `mem3r run` (once; the scan stays in the
work folder), `mem3r refine`, `mem3r export colmap`, and through pycolmap's usual pipeline: SIFT, sequential
matching, incremental mapping, one shared camera, default options. Every part has a process of its own with
all cores, one after the other; times are given as seconds of the processor and of the clock. ATE is evo's
in the unit of the truth. A row is printed and kept in the JSON file as soon as it is known.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro

from mem3r_colmap import ColmapExportConfig, export_colmap
from mem3r_plugin.evaluation import PosedSequence, Protocol, evaluate, evo_trajectory_errors
from mem3r_plugin.evaluation.layouts import load_sequence
from mem3r_plugin.files import atomic_path
from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.geometry.pose import invert_pose, pose_matrix
from mem3r_plugin.refine.refine import RefineConfig, RefineReport, refine
from mem3r_plugin.refine.score import COMPARING
from mem3r_plugin.scan import Scan
from mem3r_plugin.stream.run import RunConfig, run

SHARED = Path(__file__).parents[2] / "shared" / "data"
CASES = (
    "photo_strecha_fountain_p11",
    "photo_strecha_castle_p30",
    "phone_fox",
    "driving_kitti06_stereo51",
    "rgbd_7scenes_redkitchen:4",
    "rgb_courthouse",
    "rgbd_7scenes_redkitchen",
    "driving_kitti00_lowres",
)
"""What `--all` measures, short ones first."""

Record = dict[str, Any]


@dataclass(frozen=True)
class RefineBenchmark:
    """What to measure."""

    work: Path
    """Folder for scans and models."""
    cases: tyro.conf.Positional[tuple[str, ...]] = ()
    """Names of sequences, with `:N` behind them to take every N-th picture."""
    all: bool = False
    """Measure all sequences."""
    data: Path = SHARED
    """Folder of the sequences."""
    output: Path = Path(__file__).parent / "results" / "refine.json"
    """JSON file of the results; those of other sequences in it stay."""
    parts: tuple[Literal["refine", "pycolmap"], ...] = ("refine", "pycolmap")
    """What to measure; the other's results stay."""


def main(options: RefineBenchmark) -> None:
    """Measure case by case."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the `mem3r` command does
    results = json.loads(options.output.read_text()) if options.output.exists() else {}
    print_header()
    for case in CASES if options.all else options.cases:
        result = results.setdefault(case, {})
        for part in options.parts:
            result[part] = isolated(PARTS[part], case, options.data, options.work)
            with atomic_path(options.output) as temporary:
                temporary.write_text(json.dumps(results, indent=2) + "\n")
        print_row(case, result)


def isolated(measure: Callable[[str, Path, Path], Record], *arguments: Any) -> Record:
    """A record measured in a process of its own; what went wrong, where it dies."""
    try:
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            return pool.submit(measure, *arguments).result()
    except BrokenProcessPool:
        return {"failed": "the process died"}
    except Exception as error:
        traceback.print_exc()
        return {"failed": f"{type(error).__name__}: {error}"}


# -- mem3r ---------------------------------------------------------------------------------------


def measure_refine(case: str, data: Path, work: Path) -> Record:
    """The scan before and after refinement, and its export."""
    sequence, scan = open_case(case, data, work)
    folder = work / case.replace(":", "_")
    times = StageTimes()
    refined = refine(RefineConfig(scan.path, folder / "refined", overwrite=True), times)
    times("done", 0, 0)
    report = RefineReport.load(refined.path)
    exported = export_colmap(refined, folder / "colmap", ColmapExportConfig(overwrite=True))
    poses = asdict(report.poses)
    return {
        "frames": len(scan),
        "result": report.result,
        "poses": poses | {"cpu_seconds": times.poses[0], "seconds": times.poses[1]},
        "depth_cpu_seconds_per_keyframe": times.depth[0] / max(report.poses.mapped, 1),
        "depth_seconds_per_keyframe": times.depth[1] / max(report.poses.mapped, 1),
        "cpu_seconds": times.all[0],
        "seconds": times.all[1],
        "focal_error": focal_error(refined.camera.fx, sequence),
        "disagreement_before": report.score_before.depth_disagreement,
        "disagreement": report.score.depth_disagreement,
        "warnings": [*report.poses.warnings, *report.score.warnings],
        "export": asdict(exported) | {"warnings": list(exported.warnings)},
        "errors_before": errors(scan, sequence),
        "errors": errors(refined, sequence),
    }


class StageTimes:
    """Seconds of processor and clock between the stages that `refine` tells about."""

    def __init__(self) -> None:
        self._stage = "start"
        self._since = self._now()
        self._spent: list[tuple[str, FloatArray]] = []

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Note when a stage begins."""
        if stage == self._stage:
            return
        now = self._now()
        self._spent.append((self._stage, now - self._since))
        self._stage, self._since = stage, now

    @property
    def poses(self) -> tuple[float, float]:
        """All that comes before depth is first looked at."""
        return self._sum(slice(0, self._comparisons()[0]))

    @property
    def depth(self) -> tuple[float, float]:
        """From there until the result is scored."""
        bounds = self._comparisons()
        return self._sum(slice(bounds[0] + 1, bounds[1]))

    @property
    def all(self) -> tuple[float, float]:
        """Everything."""
        return self._sum(slice(None))

    def _comparisons(self) -> list[int]:
        ranks = [rank for rank, (stage, _) in enumerate(self._spent) if stage == COMPARING]
        return [*ranks, len(self._spent), len(self._spent)]

    def _sum(self, part: slice) -> tuple[float, float]:
        cpu, wall = sum((spent for _, spent in self._spent[part]), np.zeros(2)).tolist()
        return cpu, wall

    @staticmethod
    def _now() -> FloatArray:
        return np.array([time.process_time(), time.perf_counter()])


def open_case(case: str, data: Path, work: Path) -> tuple[PosedSequence, Scan]:
    """The truth, and the scan of `mem3r run` with the bundled weights."""
    name, _, stride = case.partition(":")
    sequence = load_sequence(data / name)
    output = work / case.replace(":", "_") / "scan"
    if (output / "scan.json").exists() and Scan.open(output).complete:
        return sequence, Scan.open(output)
    pictures = str(sequence.images[0].parent)
    options = RunConfig(source=pictures, output=output, stride=int(stride or 1), overwrite=True)
    return sequence, run(options, silent=True)


def errors(scan: Scan, sequence: PosedSequence) -> Record:
    """Trajectory and depth against the truth."""
    (result,) = evaluate(scan, sequence, Protocol(("trajectory", "depth")))["results"]
    measured: Record = result
    return measured


# -- pycolmap ------------------------------------------------------------------------------------


def measure_pycolmap(case: str, data: Path, work: Path) -> Record:
    """COLMAP's usual pipeline on the pictures of the scan."""
    import pycolmap

    sequence, scan = open_case(case, data, work)
    folder = work / case.replace(":", "_") / "pycolmap"
    shutil.rmtree(folder, ignore_errors=True)
    pictures, database = folder / "pictures", folder / "database.db"
    pictures.mkdir(parents=True)
    files = {f"{index:06d}.jpg": picture_file(scan, index) for index in range(len(scan))}
    for name, file in files.items():
        (pictures / name).symlink_to(file)
    pycolmap.logging.minloglevel = 2
    pycolmap.set_random_seed(0)
    times = StageTimes()
    pycolmap.extract_features(database, pictures, camera_mode=pycolmap.CameraMode.SINGLE)
    pycolmap.match_sequential(database)
    models = pycolmap.incremental_mapping(database, pictures, folder)
    times("done", 0, 0)
    cpu_seconds, seconds = times.all
    record: Record = {"cpu_seconds": cpu_seconds, "seconds": seconds, "pieces": len(models)}
    if not models:
        return record | {"posed": 0}
    model = max(models.values(), key=lambda model: model.num_reg_images())
    frames, poses = registered(model)
    ranks = {image.resolve(): rank for rank, image in enumerate(sequence.images)}
    matches = np.array([ranks[files[f"{frame:06d}.jpg"]] for frame in frames])
    known = sequence.posed[matches]
    found = evo_trajectory_errors(poses[known], sequence.camera_to_world[matches[known]])
    return record | {
        "posed": len(frames),
        "trajectory": asdict(found),
        "focal_error": focal_error(next(iter(model.cameras.values())).focal_length_x, sequence),
        "mean_reprojection_error": model.compute_mean_reprojection_error(),
        "mean_track_length": model.compute_mean_track_length(),
    }


def picture_file(scan: Scan, index: int) -> Path:
    """The plain file of a picture."""
    file = scan.image_file(index)
    if file is None:
        raise SystemExit(f"{scan.path} was not made from plain picture files")
    return file.resolve()


def registered(model: Any) -> tuple[list[int], FloatArray]:
    """Frames of a model in order and their `camera_to_world` poses (n, 4, 4)."""
    images = sorted(
        (image for image in model.images.values() if image.has_pose), key=lambda image: image.name
    )
    matrices = np.stack([image.cam_from_world().matrix() for image in images])
    poses = invert_pose(pose_matrix(matrices[..., :3], matrices[..., 3]))
    return [int(Path(image.name).stem) for image in images], poses


def focal_error(focal: float, sequence: PosedSequence) -> float:
    """Relative error of a focal length."""
    return abs(focal / sequence.intrinsics.fx - 1)


PARTS: dict[str, Callable[[str, Path, Path], Record]] = {
    "refine": measure_refine,
    "pycolmap": measure_pycolmap,
}


# -- the table -----------------------------------------------------------------------------------

COLUMNS = (
    "sequence",
    "ATE run / refined / pycolmap",
    "refined ÷ pycolmap",
    "pose time, CPU s (wall), refined / pycolmap",
    "focal error refined / pycolmap",
    "posed refined / pycolmap",
    "mapped, tracked, carried; pieces",
    "depth disagreement run → refined",
    "AbsRel run → refined",
    "median of confident (share)",
    "both at the scale of least absolute error",
    "depth, CPU s (wall) a keyframe",
    "export: error, track length",
)


def print_header() -> None:
    """The head of a Markdown table."""
    print("| " + " | ".join(COLUMNS) + " |")
    print("|---" * len(COLUMNS) + "|", flush=True)


def print_row(case: str, result: Record) -> None:
    """One case as a row of the table."""
    ours, theirs = result.get("refine", {}), result.get("pycolmap", {})
    ates = [get(ours, path, "trajectory", "ate_rmse") for path in ("errors_before", "errors")]
    ates.append(get(theirs, "trajectory", "ate_rmse"))
    ratio = ates[1] / ates[2] if ates[1] and ates[2] else None
    poses, export = ours.get("poses") or {}, get(ours, "export", "measured") or {}
    frames = ours.get("frames")
    confident = get(ours, "errors", "depth", "confident", "median_rel")
    fitted = get(ours, "errors", "depth", "least_absolute") or {}
    supports = ", ".join(str(poses.get(name, "-")) for name in ("mapped", "tracked", "carried"))
    pieces = theirs.get("pieces", 0)
    cells = (
        f"{case}, {frames}",
        " / ".join(number(ate) for ate in ates),
        number(ratio, ".2f"),
        f"{seconds(poses)} / {seconds(theirs)}",
        f"{percent(ours.get('focal_error'))} / {percent(theirs.get('focal_error'))}",
        f"{frames} / {theirs.get('posed', '-')}" + (f" in {pieces} pieces" if pieces > 1 else ""),
        f"{supports}; {poses.get('pieces', '-')}",
        f"{percent(ours.get('disagreement_before'))} → {percent(ours.get('disagreement'))}",
        " → ".join(
            number(get(ours, path, "depth", "scaled", "abs_rel"), ".3f")
            for path in ("errors_before", "errors")
        ),
        f"{percent(confident)} ({percent(get(ours, 'errors', 'depth', 'confident_share'))})",
        f"{number(get(fitted, 'scaled', 'abs_rel'), '.3f')}, "
        f"{percent(get(fitted, 'confident', 'median_rel'))}",
        f"{number(ours.get('depth_cpu_seconds_per_keyframe'), '.2f')} "
        f"({number(ours.get('depth_seconds_per_keyframe'), '.2f')})",
        f"{number(export.get('mean_reprojection_error'), '.2f')} px, "
        f"{number(export.get('mean_track_length'), '.1f')}",
    )
    failures = [
        f"{part} {record['failed']}" for part, record in result.items() if "failed" in record
    ]
    print("| " + " | ".join([*cells[:-1], "; ".join([cells[-1], *failures])]) + " |", flush=True)


def get(record: Record, *path: str) -> Any:
    """What lies at a path of keys; None where any is missing."""
    found: Any = record
    for key in path:
        found = (found or {}).get(key)
    return found


def number(value: float | None, form: str = ".3g") -> str:
    """A number, or a dash."""
    return "-" if value is None else f"{value:{form}}"


def percent(value: float | None) -> str:
    """A share, or a dash."""
    return "-" if value is None else f"{100 * value:.2g} %"


def seconds(record: Record) -> str:
    """Seconds of the processor and, in brackets, of the clock."""
    cpu, wall = record.get("cpu_seconds"), record.get("seconds")
    return f"{number(cpu, '.1f')} ({number(wall, '.1f')})"


if __name__ == "__main__":
    main(tyro.cli(RefineBenchmark))
