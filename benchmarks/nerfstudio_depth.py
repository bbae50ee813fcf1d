"""What depth from a scan is worth to nerfacto: the same few iterations with and without it.

    make nerfstudio-env
    .venv-nerfstudio/bin/python benchmarks/nerfstudio_depth.py --work /tmp/nerfstudio

Renders a held-back procedural world with exact depth and poses, trains `mem3r-nerfacto` and
`mem3r-depth-nerfacto` through the real `ns-train` with settings for a CPU, and compares the views that
nerfstudio held out: depth with the truth, and PSNR. Prints a Markdown table and writes
`benchmarks/results/nerfstudio_depth.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import torch

from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.imports.rgbd import ImportRgbdConfig, import_rgbd
from mem3r_plugin.scan import Scan
from mem3r_plugin.training.worlds import HELD_BACK, sample_sequence, write_sequence

METHODS = ("mem3r-nerfacto", "mem3r-depth-nerfacto")
SMALL = {
    "pipeline.datamanager.train-num-rays-per-batch": "512",
    "pipeline.datamanager.eval-num-rays-per-batch": "512",
    "pipeline.model.num-nerf-samples-per-ray": "16",
    "pipeline.model.num-proposal-samples-per-ray": "32 16",
    "pipeline.model.log2-hashmap-size": "13",
    "pipeline.model.max-res": "256",
    "pipeline.model.num-levels": "8",
    "pipeline.model.hidden-dim": "32",
    "pipeline.model.hidden-dim-color": "32",
    "pipeline.model.eval-num-rays-per-chunk": "4096",
}
"""Sizes at which an iteration takes a CPU core some tenths of a second."""
RESULT = Path(__file__).parent / "results" / "nerfstudio_depth.json"


def main() -> None:
    """Train both, measure both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for the clip and the runs")
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument("--seed", type=int, default=HELD_BACK + 3, help="of the world")
    options = parser.parse_args()
    scan = _scan(options.work, options.seed)
    rows = {}
    for method in METHODS:
        config = _train(method, scan, options.work, options.iterations)
        rows[method] = _measure(config, scan)
    settings = {"iterations": options.iterations, "seed": options.seed, "frames": len(scan)}
    RESULT.write_text(json.dumps({**settings, "rows": rows}, indent=2) + "\n")
    print("| method | depth AbsRel | PSNR, dB |\n|---|---|---|")
    for method, row in rows.items():
        print(f"| `{method}` | {row['abs_rel']:.3f} | {row['psnr']:.2f} |")


def _scan(work: Path, seed: int) -> Scan:
    folder = work / f"scan-{seed}"
    if not (folder / "scan.json").exists():
        views = sample_sequence(
            seed, 40, (160, 120), "room", style="orbit", stride=3, photometric=False, supersample=2
        )
        write_sequence(views, work / f"clip-{seed}", 15.0)
        import_rgbd(ImportRgbdConfig(work / f"clip-{seed}", folder))
    return Scan.open(folder)


def _train(method: str, scan: Scan, work: Path, iterations: int) -> Path:
    """Train through nerfstudio's own command; returns the run's configuration file."""
    command = [
        *(str(Path(sys.executable).with_name("ns-train")), method),
        *("--data", str(scan.path), "--output-dir", str(work), "--experiment-name", "depth"),
        *("--timestamp", "run", "--max-num-iterations", str(iterations), "--vis", "tensorboard"),
        *("--machine.device-type", "cpu", "--mixed-precision", "False"),
        *("--steps-per-eval-batch", "0", "--steps-per-eval-image", "0"),
        *("--steps-per-eval-all-images", "0"),
        *(word for name, value in SMALL.items() for word in (f"--{name}", *value.split())),
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return work / "depth" / method / "run" / "config.yml"


@torch.no_grad()
def _measure(config: Path, scan: Scan) -> dict[str, float]:
    """Depth and colour errors over the views that took no part in training."""
    from nerfstudio.utils.eval_utils import eval_setup

    _, pipeline, _, _ = eval_setup(config, test_mode="test")
    dataset = pipeline.datamanager.eval_dataset
    scale = dataset._dataparser_outputs.dataparser_scale
    frames = {Path(frame.name).stem: frame.index for frame in scan.frames}
    errors, psnrs = [], []
    for index, file in enumerate(dataset.image_filenames):
        camera = dataset.cameras[index : index + 1]
        outputs = pipeline.model.get_outputs_for_camera(camera)
        picture = dataset.get_image_float32(index)
        error = (outputs["rgb"].clamp(0, 1) - picture).square().mean()
        psnrs.append(float(-10 * error.log10()))
        distance = outputs["depth"][..., 0].double().numpy() / scale
        truth = scan.original_depth(frames[file.stem])
        z = distance / _ray_length(scan)
        errors.append(np.abs(z / truth - 1)[truth > 0])
    return {"abs_rel": float(np.concatenate(errors).mean()), "psnr": float(np.mean(psnrs))}


def _ray_length(scan: Scan) -> FloatArray:
    """Length (H, W) of the ray to a point at depth 1, by which distance and z differ."""
    rays = scan.camera.unproject_depth(np.ones((scan.camera.height, scan.camera.width)))
    length: FloatArray = np.linalg.norm(rays, axis=-1)
    return length


if __name__ == "__main__":
    cv2.setNumThreads(1)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    main()
