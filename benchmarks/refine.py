"""A sequence refined, beside pycolmap's own mapper on the same frames.

    python benchmarks/refine.py ../shared/data/phone_fox --work /tmp/fox
    python benchmarks/refine.py ../shared/data/rgbd_7scenes_redkitchen --work /tmp/kitchen --stride 4

Prints a Markdown table. Times are the processor's, all threads together, so that other work on the
machine counts little. The scan is made if it does not lie in the work folder yet.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from mem3r_plugin.evaluation import PosedSequence, Protocol, evaluate, evo_trajectory_errors
from mem3r_plugin.evaluation.layouts import load_sequence
from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.geometry.pose import invert_pose, pose_matrix
from mem3r_plugin.refine.refine import RefineConfig, refine
from mem3r_plugin.refine.score import score_scan
from mem3r_plugin.scan import Scan
from mem3r_plugin.stream.run import RunConfig, run

Row = dict[str, str]


def main() -> None:
    """Measure one sequence and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sequence", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="folder for scans and models")
    parser.add_argument("--stride", type=int, default=1, help="take every so manieth picture")
    options = parser.parse_args()
    sequence = load_sequence(options.sequence)
    scan = _scan(sequence, options.work / "scan", options.stride)
    rows = {"mem3r run": _row(scan, sequence)}
    stages: list[tuple[float, str]] = []
    start = time.process_time()
    refined = refine(
        RefineConfig(scan.path, options.work / "refined", overwrite=True),
        tell=lambda stage: stages.append((time.process_time() - start, stage)),
    )
    seconds = time.process_time() - start
    posed = next(passed for passed, stage in stages if stage.startswith("writing"))
    times = {"poses, CPU s": f"{posed:.0f}", "in all, CPU s": f"{seconds:.0f}"}
    rows["mem3r refine"] = _row(refined, sequence) | times
    rows["pycolmap"] = _pycolmap(scan, sequence, options.work / "pycolmap")
    _print(f"{sequence.name}, {len(scan)} frames", rows)


def _scan(sequence: PosedSequence, output: Path, stride: int) -> Scan:
    if (output / "scan.json").exists():
        return Scan.open(output)
    pictures = str(sequence.images[0].parent)
    return run(RunConfig(source=pictures, output=output, stride=stride), silent=True)


def _row(scan: Scan, sequence: PosedSequence) -> Row:
    """What is measured of a scan with and without the truth."""
    protocol = Protocol(("trajectory", "depth"))
    (errors,) = evaluate(scan, sequence, protocol)["results"]
    row = {
        "posed": f"{len(scan)} of {len(scan)}",
        "ATE": f"{errors['trajectory']['ate_rmse']:.4g}",
        "focal error": _focal_error(scan.camera.fx, sequence),
        "depth disagreement": _percent(score_scan(scan).depth_disagreement),
    }
    depth: dict[str, Any] | None = errors["depth"]
    if depth:
        row["AbsRel"] = f"{depth['scaled']['abs_rel']:.3f}"
        row["median, 70 % most confident"] = _percent(depth["confident"]["median_rel"])
    return row


def _pycolmap(scan: Scan, sequence: PosedSequence, folder: Path) -> Row:
    """COLMAP's usual pipeline: SIFT, sequential matching, incremental mapping, one shared camera."""
    shutil.rmtree(folder, ignore_errors=True)
    pictures, database = folder / "pictures", folder / "database.db"
    pictures.mkdir(parents=True)
    files = {f"{index:06d}.jpg": _file(scan, index) for index in range(len(scan))}
    for name, file in files.items():
        (pictures / name).symlink_to(file)
    pycolmap.set_random_seed(0)
    start = time.process_time()
    pycolmap.extract_features(database, pictures, camera_mode=pycolmap.CameraMode.SINGLE)
    pycolmap.match_sequential(database)
    models = pycolmap.incremental_mapping(database, pictures, folder)
    seconds = time.process_time() - start
    row = {"poses, CPU s": f"{seconds:.0f}", "posed": f"0 of {len(scan)}"}
    if not models:
        return row
    model = max(models.values(), key=lambda model: model.num_reg_images())
    frames, poses = _registered(model)
    ranks = {image.resolve(): rank for rank, image in enumerate(sequence.images)}
    matches = np.array([ranks[files[f"{frame:06d}.jpg"]] for frame in frames])
    posed = sequence.posed[matches]
    errors = evo_trajectory_errors(poses[posed], sequence.camera_to_world[matches[posed]])
    pieces = "" if len(models) == 1 else f", {len(models)} pieces"
    return row | {
        "posed": f"{len(frames)} of {len(scan)}{pieces}",
        "ATE": f"{errors.ate_rmse:.4g}",
        "focal error": _focal_error(next(iter(model.cameras.values())).focal_length_x, sequence),
    }


def _file(scan: Scan, index: int) -> Path:
    file = scan.image_file(index)
    if file is None:
        raise SystemExit(f"{scan.path} was not made from plain picture files")
    return file.resolve()


def _registered(model: pycolmap.Reconstruction) -> tuple[list[int], FloatArray]:
    """Frames of a model in order and their `camera_to_world` poses (n, 4, 4)."""
    images = sorted(
        (image for image in model.images.values() if image.has_pose), key=lambda image: image.name
    )
    matrices = np.stack([image.cam_from_world().matrix() for image in images])
    poses = invert_pose(pose_matrix(matrices[..., :3], matrices[..., 3]))
    return [int(Path(image.name).stem) for image in images], poses


def _focal_error(focal: float, sequence: PosedSequence) -> str:
    return _percent(abs(focal / sequence.intrinsics.fx - 1))


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2g} %"


def _print(title: str, rows: dict[str, Row]) -> None:
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    print("|".join(["", title, *columns, ""]))
    print("|---" * (len(columns) + 1) + "|")
    for name, row in rows.items():
        print("|".join(["", name, *(row.get(column, "") for column in columns), ""]))


if __name__ == "__main__":
    main()
