"""Real Ray clusters on this machine: every scan completes, none twice, whoever dies on the way."""

import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest

from mem3r_plugin.batch import BatchConfig, Outcome, ScanOptions, batch, ray_cluster
from mem3r_plugin.batch.ray_cluster import RayConfig
from mem3r_plugin.errors import ConfigError
from mem3r_plugin.scan import Scan
from mem3r_plugin.stream.run import run
from mem3r_plugin.stream.window import LARGEST_WINDOW
from tests.batch import deaths
from tests.commands.terminal import MEM3R
from tests.stream.pictures import write_pictures
from tests.stream.small_model import tree

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")

NAMES = ("a", "b", "c", "d")
FRAMES = 150
STEP = 5


@pytest.fixture
def config(options: ScanOptions, tmp_path: Path) -> BatchConfig:
    """Four scans of 150 frames, for two workers."""
    pictures = [f"{i}.png" for i in range(FRAMES)]
    first = write_pictures(tmp_path / "a", pictures, 64, 48)
    for name in NAMES[1:]:
        (tmp_path / name).symlink_to(first)
    (tmp_path / "list.txt").write_text("\n".join(NAMES))
    scan = replace(options, checkpoint_every=STEP)
    return BatchConfig(
        tmp_path / "list.txt", tmp_path / "scans", "ray", ray=RayConfig(2), scan=scan
    )


@contextmanager
def command(config: BatchConfig, *more: str) -> Iterator[subprocess.Popen[str]]:
    """`mem3r batch` at work on a Ray cluster; it and its cluster do not outlive the block."""
    scan = config.scan
    words = [
        str(MEM3R),
        "batch",
        str(config.list),
        "--output",
        str(config.output),
        "--engine",
        "ray",
    ]
    words += ["--model", scan.model, "--weights", str(scan.weights), "--device", "cpu"]
    words += ["--checkpoint-every", str(scan.checkpoint_every), *more]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(30)
            process.kill()


def writers(config: BatchConfig) -> dict[str, set[psutil.Process]]:
    """Which processes of the cluster have the frames of which scan open."""
    found: dict[str, set[psutil.Process]] = {}
    for worker in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            for file in worker.open_files():
                path = Path(file.path)
                if path.name == "frames.jsonl" and path.parent.parent == config.output:
                    found.setdefault(path.parent.name, set()).add(worker)
    return found


def frames(scan: Path) -> int:
    with suppress(FileNotFoundError):
        return (scan / "frames.jsonl").read_bytes().count(b"\n")
    return 0


def told_of(told: str) -> dict[str, int]:
    """How many frames of each scan were made, by what the command says; each scan is told of once."""
    lines = re.findall(r"^\d/4 (\w): (\d+) frames(?:, (\d+) of them now)?$", told, re.MULTILINE)
    assert sorted(name for name, _, _ in lines) == list(NAMES), told
    return {name: int(now or whole) for name, whole, now in lines}


def times(files: Iterator[Path]) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in files if file.is_file()}


def wait_for_writer(
    config: BatchConfig, process: subprocess.Popen[str]
) -> tuple[str, psutil.Process]:
    """A scan that is in the middle, and who writes it; not the first, so that one may be complete by then."""
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        writing = writers(config)
        assert all(len(workers) == 1 for workers in writing.values()), writing
        for name, workers in writing.items():
            if name != "a" and 40 < frames(config.output / name) < FRAMES - 40:
                return name, workers.pop()
        time.sleep(0.05)
    raise AssertionError(process.communicate(timeout=10))


def test_a_worker_killed_on_the_way(config, options, tmp_path):
    with command(config, "--workers", "2") as process:
        victim, worker = wait_for_writer(config, process)
        worker.kill()
        # Checkpoints lie at the ends of windows, and each is saved before the frame behind it is written.
        kept = (frames(config.output / victim) - 1) // LARGEST_WINDOW * LARGEST_WINDOW
        done = [n for n in NAMES if n != victim and frames(config.output / n) == FRAMES]
        depth = (config.output / victim / "depth").glob("[!.]*")  # no file half written
        before = times(file for file in depth if int(file.stem) < kept)
        before |= times(file for n in done for file in (config.output / n / "depth").glob("*"))
        output, told = process.communicate(timeout=300)
    assert process.returncode == 0, told
    assert output == f"{config.output}: 4 of 4 scans complete\n"
    made = told_of(told)
    assert FRAMES - kept - LARGEST_WINDOW <= made.pop(victim) <= FRAMES - kept
    assert set(made.values()) == {FRAMES}
    assert {file: file.stat().st_mtime_ns for file in before} == before, "made twice"
    alone = replace(options, source=str(tmp_path / victim), output=tmp_path / "alone")
    run(alone, silent=True)
    whole = tree(alone.output)
    assert tree(config.output / victim) == whole
    for name in NAMES:  # the same pictures in all
        assert Scan.open(config.output / name).complete
        assert tree(config.output / name).keys() == whole.keys()
        assert tree(config.output / name / "depth") == tree(alone.output / "depth")


def test_what_ray_would_wait_for_without_end_is_refused(config):
    with pytest.raises(ConfigError, match="no machine of the Ray cluster has 1 CPUs and 7 GPUs"):
        list(batch(replace(config, ray=RayConfig(workers=1, gpus=7))))
    assert not config.output.exists()


def test_a_cluster_that_is_not_there(config):
    with pytest.raises(ConfigError, match=r"no Ray cluster at 127\.0\.0\.1:1: ") as refusal:
        list(batch(replace(config, ray=RayConfig(address="127.0.0.1:1"))))
    assert "\n" not in str(refusal.value)


@pytest.mark.slow
def test_a_source_that_kills_every_worker_is_given_up(config, monkeypatch):
    monkeypatch.setattr(ray_cluster, "make_scan", deaths.make_or_die)
    outcomes = {outcome.scan.name: outcome for outcome in batch(config)}
    failure = outcomes.pop("b").failure
    assert failure is not None and failure.startswith("Ray gave it up: ")
    assert "\n" not in failure
    assert set(outcomes.values()) == {
        Outcome(config.output / name, FRAMES, FRAMES) for name in ("a", "c", "d")
    }


@pytest.mark.slow
def test_a_machine_that_goes_down_on_the_way(config):
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        machines = [cluster.add_node(num_cpus=1) for _ in range(2)]
        with command(config, "--address", cluster.address) as process:
            victim, worker = wait_for_writer(config, process)
            raylets = {psutil.Process(raylet_of(machine)): machine for machine in machines}
            (home,) = set(worker.parents()) & set(raylets)
            cluster.remove_node(raylets[home], allow_graceful=False)
            output, told = process.communicate(timeout=300)
    finally:
        cluster.shutdown()
    assert process.returncode == 0, told
    assert output == f"{config.output}: 4 of 4 scans complete\n"
    made = told_of(told)
    assert 0 < made.pop(victim) < FRAMES
    assert set(made.values()) == {FRAMES}


def raylet_of(machine: Any) -> int:
    (info,) = machine.all_processes["raylet"]
    return int(info.process.pid)
