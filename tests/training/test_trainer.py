"""Training learns, survives being killed, and resumes as if nothing had happened."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
import yaml
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from mem3r_plugin.commands.main import main
from mem3r_plugin.configuration import load_preset
from mem3r_plugin.errors import ConfigError, Mem3RError, WeightsError
from mem3r_plugin.model.weights import load_network, random_network
from mem3r_plugin.scan import Scan
from mem3r_plugin.training.batch import WorldBatches
from mem3r_plugin.training.config import (
    DataConfig,
    LossWeights,
    OptimiserConfig,
    Stage,
    TrainingConfig,
)
from mem3r_plugin.training.schedule import learning_rate
from mem3r_plugin.training.trainer import CHECKPOINT, LOG, WEIGHTS, starting_network, train
from mem3r_plugin.training.unroll import UnrolledNetwork
from tests.model.networks import CUT3R, MEM3R
from tests.model.test_checkpoint import public_state_dict
from tests.stream.pictures import write_pictures


@pytest.fixture(autouse=True)
def fresh_accelerator() -> Iterator[None]:
    """accelerate keeps one precision per process; a run of the command line has a process of its own."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def config(tmp_path: Path) -> TrainingConfig:
    """A network and pictures that train a step in a few hundredths of a second."""
    model = tmp_path / "mini.yaml"
    model.write_text(yaml.safe_dump(json.loads(json.dumps(asdict(MEM3R)))))
    return TrainingConfig(
        model=str(model),
        stages=(Stage(steps=4, views=3, sequences=2, stride=(1, 4)),),
        data=DataConfig(size=(48, 32), workers=0),
        optimiser=OptimiserConfig(learning_rate=1e-3, warmup_steps=2),
        precision="no",
        threads=1,
        log_every=1,
        checkpoint_minutes=0,
    )


def test_resumed_run_gives_the_same_weights(config: TrainingConfig, tmp_path: Path) -> None:
    straight = load_file(train(config, tmp_path / "straight"))
    for _ in range(4):
        pieces = train(config, tmp_path / "pieces", minutes=0)
    in_pieces = load_file(pieces)
    assert straight.keys() == in_pieces.keys()
    for name, tensor in straight.items():
        assert torch.equal(tensor, in_pieces[name]), name


def test_loss_falls_on_one_batch(config: TrainingConfig) -> None:
    torch.manual_seed(0)
    batch = WorldBatches(config).batch_at(0)
    unrolled = UnrolledNetwork(random_network(MEM3R).train(), config.loss)
    optimiser = torch.optim.AdamW(unrolled.parameters(), lr=1e-3)
    history = []
    for _ in range(25):
        terms = unrolled(batch)
        loss = torch.stack(list(terms.values())).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        history.append({name: float(term.detach()) for name, term in terms.items()})
    for name in ("pose", "motion", "points_self", "points_world"):
        assert history[-1][name] < 0.7 * history[0][name], name


def test_killed_run_resumes(config: TrainingConfig, tmp_path: Path) -> None:
    """kill -9 while steps and checkpoints are being made."""
    endless = replace(config, stages=(replace(config.stages[0], steps=10_000),))
    preset = tmp_path / "endless.yaml"
    preset.write_text(yaml.safe_dump(json.loads(json.dumps(asdict(endless)))))
    output = tmp_path / "run"
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "mem3r_plugin.commands.main",
            "train",
            str(preset),
            "--output",
            str(output),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        deadline = time.monotonic() + 60
        while not (output / CHECKPOINT).is_file() or not (output / WEIGHTS).is_file():
            assert process.poll() is None, "training ended by itself"
            assert time.monotonic() < deadline, "no checkpoint within a minute"
            time.sleep(0.05)
        time.sleep(0.4)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = len((output / LOG).read_text().splitlines())
    train(endless, output, minutes=0)
    steps = [json.loads(line)["step"] for line in (output / LOG).read_text().splitlines()]
    assert done >= 1
    assert 2 <= steps[-1] <= done + 1
    assert len(load_file(output / WEIGHTS)) == len(random_network(MEM3R).state_dict())


def test_checkpoint_of_the_shipped_size_can_travel(tmp_path: Path) -> None:
    config = TrainingConfig(
        model="mem3r-tiny",
        stages=(Stage(steps=1, views=2, sequences=1),),
        data=DataConfig(size=(64, 48), workers=0),
        threads=1,
    )
    train(config, tmp_path)
    assert (tmp_path / CHECKPOINT).stat().st_size < 60e6
    assert (tmp_path / WEIGHTS).stat().st_size < 40e6


def test_mem3r_is_fine_tuned_from_a_cut3r_checkpoint(
    config: TrainingConfig, tmp_path: Path
) -> None:
    """Loads CUT3R's layout, converts, trains with colours asked by rays, and the result loads."""
    start = tmp_path / "cut3r.pth"
    cut3r = random_network(CUT3R)
    torch.save({"model": public_state_dict(cut3r)}, start)
    weights = train(
        replace(
            config,
            start=str(start),
            loss=LossWeights(rgb=0.5),
            checkpoint_activations=True,
            truncate=2,
        ),
        tmp_path / "run",
    )
    trained = load_network(config.model, str(weights))
    before = cut3r.state_dict()["image_encoder.blocks.0.mlp.fc1.weight"]
    after = trained.state_dict()["image_encoder.blocks.0.mlp.fc1.weight"]
    difference = (after - before).abs().max()
    assert 0 < difference < 0.02


def test_variants_start_from_common_weights(config: TrainingConfig, tmp_path: Path) -> None:
    """An ablation: a CUT3R trained from a Mem3R's weights, everything shared taken over."""
    common = train(config, tmp_path / "common", minutes=0)
    variant = tmp_path / "variant.yaml"
    variant.write_text(yaml.safe_dump(json.loads(json.dumps(asdict(CUT3R)))))
    other = replace(config, model=str(variant), start=str(common), transplant=True)
    network = starting_network(other)
    before = load_file(common)
    name = "decoder.state_blocks.0.mlp.fc1.weight"
    assert torch.equal(network.state_dict()[name], before[name])
    trained = load_file(train(other, tmp_path / "run"))
    assert 0 < (trained[name] - before[name]).abs().max() < 0.02
    with pytest.raises(WeightsError, match="does not fit"):
        starting_network(replace(other, transplant=False))


def test_the_recipe_turns_a_cut3r_into_a_mem3r_that_runs(tmp_path: Path) -> None:
    """`configs/finetune_from_cut3r.yaml` on a small network: CUT3R's layout in, `mem3r run` the result."""
    start, model, recipe = (tmp_path / name for name in ("cut3r.pth", "mini.yaml", "recipe.yaml"))
    torch.save({"model": public_state_dict(random_network(CUT3R))}, start)
    model.write_text(yaml.safe_dump(json.loads(json.dumps(asdict(MEM3R) | {"picture_size": 64}))))
    full = load_preset("training", "finetune_from_cut3r", TrainingConfig())
    small = replace(
        full,
        model=str(model),
        start=str(start),
        stages=tuple(replace(s, steps=1, views=min(s.views, 17), sequences=1) for s in full.stages),
        data=replace(full.data, size=(64, 48), workers=0),
        optimiser=replace(full.optimiser, warmup_steps=1),
        threads=1,
        log_every=1,
    )
    recipe.write_text(yaml.safe_dump(json.loads(json.dumps(asdict(small)))))
    assert main(["train", str(recipe), "--output", str(tmp_path / "run")]) == 0
    log = [json.loads(line) for line in (tmp_path / "run" / LOG).read_text().splitlines()]
    assert [row["step"] for row in log] == [1, 2, 3]
    assert {"pose", "motion", "points_self", "points_world", "rgb"} <= log[0].keys()
    pictures = write_pictures(tmp_path / "pictures", ["0.png", "1.png", "2.png"], 64, 48)
    options = ["--model", str(model), "--weights", str(tmp_path / "run" / WEIGHTS)]
    assert main(["run", str(pictures), "--output", str(tmp_path / "scan"), *options]) == 0
    scan = Scan.open(tmp_path / "scan")
    assert scan.complete
    assert len(scan) == 3


def train_with_two_processes(preset: Path, output: Path, *options: str) -> dict[str, torch.Tensor]:
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    command = ["-m", "mem3r_plugin.commands.main", "train", str(preset), "--output", str(output)]
    subprocess.run(
        [sys.executable, *launcher, *command, *options],
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return load_file(output / WEIGHTS)


def logged_steps(output: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (output / LOG).read_text().splitlines()]


@pytest.mark.slow
def test_two_processes_train_together(config: TrainingConfig, tmp_path: Path) -> None:
    """Each with all weights, or each with a share; the shared run is stopped and resumed."""
    presets = []
    for name, shard in (("copies", False), ("shares", True)):
        changed = replace(config, shard=shard, truncate=2, checkpoint_activations=shard)
        presets.append(tmp_path / f"{name}.yaml")
        presets[-1].write_text(yaml.safe_dump(json.loads(json.dumps(asdict(changed)))))
    copies = train_with_two_processes(presets[0], tmp_path / "copies")
    train_with_two_processes(presets[1], tmp_path / "shares", "--minutes", "0")
    assert logged_steps(tmp_path / "shares") == [1]
    shares = train_with_two_processes(presets[1], tmp_path / "shares")
    assert logged_steps(tmp_path / "copies") == logged_steps(tmp_path / "shares") == [1, 2, 3, 4]
    assert copies.keys() == shares.keys()
    for name, tensor in copies.items():
        torch.testing.assert_close(shares[name], tensor, rtol=0, atol=2e-4, msg=name)
    # What several processes have shared, one can go on with.
    longer = replace(config, stages=(replace(config.stages[0], steps=5),))
    assert load_file(train(longer, tmp_path / "shares")).keys() == copies.keys()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling needs g++")
def test_compiled_blocks_learn_the_same(config: TrainingConfig, tmp_path: Path) -> None:
    eager = load_file(train(config, tmp_path / "eager"))
    compiled = load_file(train(replace(config, compile=True), tmp_path / "compiled"))
    assert compiled.keys() == eager.keys()
    for name, tensor in eager.items():
        torch.testing.assert_close(compiled[name], tensor, rtol=0, atol=2e-4, msg=name)


def test_compiling_without_a_compiler_is_refused(
    config: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match=r"C\+\+ compiler"):
        train(replace(config, compile=True), tmp_path)


def test_checkpoint_of_another_network_is_refused(config: TrainingConfig, tmp_path: Path) -> None:
    train(config, tmp_path, minutes=0)
    with pytest.raises(WeightsError, match="no checkpoint of this training run"):
        train(replace(config, model="mem3r-tiny"), tmp_path)


def test_broken_gradients_stop_the_run_and_keep_the_checkpoint(
    config: TrainingConfig, tmp_path: Path
) -> None:
    train(config, tmp_path, minutes=0)
    before = (tmp_path / CHECKPOINT).read_bytes()
    reckless = OptimiserConfig(learning_rate=1e30, warmup_steps=0, clip=1e30)
    with pytest.raises(Mem3RError, match="gradient norm"):
        train(replace(config, optimiser=reckless, checkpoint_minutes=10), tmp_path)
    assert (tmp_path / CHECKPOINT).read_bytes() == before


@pytest.mark.parametrize(
    "changes",
    [
        {"data": DataConfig(size=(100, 96))},
        {"data": DataConfig(size=(96, 96), shapes=((96, 40),))},
        {"data": DataConfig(size=(96, 96), shapes=((112, 96),))},
        {"data": DataConfig(size=(96, 96), greenery=1.5)},
        {"data": DataConfig(size=(96, 96), sobriety=2.0)},
        {"data": DataConfig(size=(96, 96), grading=-0.1)},
        {"seed": 1000},
        {"transplant": True},
        {"stages": (Stage(steps=1, views=2, sequences=1, encoder_only=True),)},
    ],
    ids=[
        "size",
        "crop",
        "crop beyond",
        "greenery",
        "sobriety",
        "grading",
        "held-back seed",
        "nothing to transplant",
        "nothing to learn by",
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        TrainingConfig(**changes)  # type: ignore[arg-type]


def test_learning_rate_warms_up_and_decays() -> None:
    config = OptimiserConfig(learning_rate=1.0, warmup_steps=10, final_fraction=0.1)
    rates = [learning_rate(step, 100, config) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == max(rates) == pytest.approx(1.0)
    assert rates[100] == pytest.approx(0.1)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))
