"""Training and what follows it, through nerfstudio's own commands on a CPU."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("nerfstudio", reason="make test-nerfstudio runs these in their own environment")

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mem3r_plugin.scan import Scan
from tests.room_scan import make_room_scan

SMALL = [
    *("--machine.device-type", "cpu", "--vis", "tensorboard", "--mixed-precision", "False"),
    *("--steps-per-eval-batch", "0", "--steps-per-eval-image", "0"),
    *("--steps-per-eval-all-images", "0", "--logging.steps-per-log", "1"),
    *("--pipeline.datamanager.train-num-rays-per-batch", "256"),
    *("--pipeline.datamanager.eval-num-rays-per-batch", "256"),
    *("--pipeline.model.num-nerf-samples-per-ray", "16"),
    *("--pipeline.model.num-proposal-samples-per-ray", "32", "16"),
    *("--pipeline.model.log2-hashmap-size", "12", "--pipeline.model.max-res", "64"),
    *("--pipeline.model.num-levels", "6", "--pipeline.model.hidden-dim", "32"),
    *("--pipeline.model.hidden-dim-color", "32"),
    *("--pipeline.model.eval-num-rays-per-chunk", "4096"),
]
STEPS = 60


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Scan:
    folder = tmp_path_factory.mktemp("room")
    return make_room_scan(folder, frames=12, size=(64, 48), network_size=64, focal=50.0)


def nerfstudio(command: str, *arguments: str | Path) -> None:
    """Run one of nerfstudio's commands without a way to the network."""
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "TORCH_HOME": "/nonexistent"}
    environment |= dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    result = subprocess.run(
        [Path(sys.executable).with_name(command), *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]


def train(method: str, data: Path, output: Path) -> Path:
    run = ("--output-dir", output, "--experiment-name", "room", "--timestamp", "now")
    limit = ("--max-num-iterations", str(STEPS))
    nerfstudio("ns-train", method, "--data", data, *run, *limit, *SMALL)
    return output / "room" / method / "now"


def losses(run: Path) -> np.ndarray:
    events = EventAccumulator(str(run))
    events.Reload()
    return np.array([event.value for event in events.Scalars("Train Loss")])


def test_nerfacto_trains_and_its_loss_falls(room: Scan, tmp_path: Path) -> None:
    run = train("mem3r-nerfacto", room.path, tmp_path)
    curve = losses(run)
    assert curve[-10:].mean() < 0.7 * curve[:10].mean()


def test_depth_nerfacto_trains_and_all_commands_work_on_it(room: Scan, tmp_path: Path) -> None:
    run = train("mem3r-depth-nerfacto", room.path, tmp_path)
    curve = losses(run)
    assert curve[-10:].mean() < 0.7 * curve[:10].mean()
    config = run / "config.yml"
    nerfstudio("ns-eval", "--load-config", config, "--output-path", tmp_path / "eval.json")
    results = json.loads((tmp_path / "eval.json").read_text())["results"]
    assert results["psnr"] > 10
    assert np.isnan(results["lpips"])
    pictures = tmp_path / "pictures"
    nerfstudio(
        *("ns-render", "dataset", "--load-config", config, "--output-path", pictures),
        *("--rendered-output-names", "rgb", "--split", "test"),
    )
    assert list(pictures.rglob("*.jpg")) or list(pictures.rglob("*.png"))
    nerfstudio(
        *("ns-export", "pointcloud", "--load-config", config, "--output-dir", tmp_path / "cloud"),
        *("--num-points", "2000", "--remove-outliers", "False", "--normal-method", "open3d"),
        *("--save-world-frame", "True"),
    )
    header = (tmp_path / "cloud" / "point_cloud.ply").read_bytes()[:400].decode(errors="ignore")
    count = re.search(r"element vertex (\d+)", header)
    assert count is not None
    assert int(count[1]) >= 2000
