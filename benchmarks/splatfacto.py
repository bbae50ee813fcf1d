"""Splats from a refined scan beside splats from pycolmap's own reconstruction of the same pictures.

    .venv-nerfstudio/bin/python benchmarks/splatfacto.py REFINED_SCAN --work /tmp/splats

Needs a CUDA GPU; without one it prepares both projects and stops there. `mem3r-splatfacto` trains on the
scan's export, stock `splatfacto` on pycolmap's model (it has no depth), both through `ns-train` with the same
pictures held out. Prints PSNR, SSIM and LPIPS of these by `ns-eval`. So far only the preparation has run.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2  # noqa: F401  (before pycolmap, which brings another zlib)
import pycolmap
import torch

from mem3r_colmap.images import image_names
from mem3r_nerfstudio import NerfstudioExportConfig, export_nerfstudio
from mem3r_plugin.scan import Scan


def main() -> None:
    """Prepare, train, evaluate, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scan", type=Path, help="a refined scan")
    parser.add_argument("--work", type=Path, required=True, help="folder for projects and runs")
    parser.add_argument("--iterations", type=int, default=15_000)
    options = parser.parse_args()
    ours, theirs = options.work / "mem3r", options.work / "pycolmap"
    export_nerfstudio(Scan.open(options.scan), ours, NerfstudioExportConfig(overwrite=True))
    posed = _pycolmap_project(ours / "images", theirs)
    print(f"pycolmap posed {posed} of {len(image_names(Scan.open(options.scan)))} pictures")
    if not torch.cuda.is_available():
        raise SystemExit(f"both projects lie in {options.work}; training splats needs a CUDA GPU")
    rows = {
        "mem3r-splatfacto, refined scan": _score("mem3r-splatfacto", ours, [], options),
        "splatfacto, pycolmap": _score(
            "splatfacto",
            theirs,
            ["colmap", "--colmap-path", "sparse/0", "--downscale-factor", "1"],
            options,
        ),
    }
    print("| | PSNR, dB | SSIM | LPIPS |\n|---|---|---|---|")
    for name, row in rows.items():
        print(f"| {name} | {row['psnr']:.2f} | {row['ssim']:.3f} | {row['lpips']:.3f} |")


def _pycolmap_project(pictures: Path, folder: Path) -> int:
    """COLMAP's usual pipeline on the pictures, one shared camera; returns how many it posed."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(pictures, folder / "images")
    database = folder / "database.db"
    pycolmap.set_random_seed(0)
    pycolmap.extract_features(database, folder / "images", camera_mode=pycolmap.CameraMode.SINGLE)
    pycolmap.match_sequential(database)
    models = pycolmap.incremental_mapping(database, folder / "images", folder / "mapping")
    if not models:
        raise SystemExit("pycolmap finds no model of these pictures")
    best = max(models.values(), key=lambda model: model.num_reg_images())
    (folder / "sparse" / "0").mkdir(parents=True)
    best.write(folder / "sparse" / "0")
    return int(best.num_reg_images())


def _score(
    method: str, project: Path, dataparser: list[str], options: argparse.Namespace
) -> dict[str, float]:
    """Train through nerfstudio's own commands; its results on the pictures held out."""
    scripts = Path(sys.executable).parent
    run = ["--output-dir", str(options.work), "--experiment-name", project.name]
    subprocess.run(
        [
            *(
                str(scripts / "ns-train"),
                method,
                *run,
                "--timestamp",
                "run",
                "--vis",
                "tensorboard",
            ),
            *("--max-num-iterations", str(options.iterations)),
            *(
                ["--data", str(project)]
                if not dataparser
                else [*dataparser, "--data", str(project)]
            ),
        ],
        check=True,
    )
    config = options.work / project.name / method / "run" / "config.yml"
    output = options.work / f"{project.name}.json"
    evaluate = [
        str(scripts / "ns-eval"),
        "--load-config",
        str(config),
        "--output-path",
        str(output),
    ]
    subprocess.run(evaluate, check=True)
    results: dict[str, float] = json.loads(output.read_text())["results"]
    return results


if __name__ == "__main__":
    main()
