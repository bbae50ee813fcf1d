"""Networks that start from the weights of a variant of themselves."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch

from mem3r_plugin.errors import ConfigError, WeightsError
from mem3r_plugin.model import NetworkConfig, ReconstructionNetwork
from mem3r_plugin.model.average import average_into
from mem3r_plugin.model.checkpoint import read_checkpoint, recorded_config, write_checkpoint
from mem3r_plugin.model.convert import convert_checkpoint, network_from
from mem3r_plugin.model.weights import random_network
from tests.model.networks import CUT3R, MEM3R

SIZE = (32, 48)
VARIANTS = {
    "mem3r": MEM3R,
    "no-fast-weights": replace(MEM3R, memory=CUT3R.memory),
    "no-gate": replace(MEM3R, gate=CUT3R.gate),
    "cut3r": CUT3R,
}


def transplant(
    donor: ReconstructionNetwork, config: NetworkConfig, folder: Path
) -> ReconstructionNetwork:
    path = folder / "donor.safetensors"
    write_checkpoint(donor, path)
    return network_from(read_checkpoint(path), config, any_variant=True)


@torch.inference_mode()
def depths(network: ReconstructionNetwork, frames: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    state, seen = network.initial_state(), []
    for _ in range(frames):
        image = torch.rand(1, 3, *SIZE, generator=generator) * 2 - 1
        output, state = network.step(state, network.encode(image), SIZE)
        assert output.points_self is not None
        seen.append(output.points_self[..., 2])
    return torch.stack(seen)


@pytest.mark.parametrize(("source", "target"), list(product(VARIANTS, repeat=2)))
def test_a_variant_begins_with_new_memory_and_gate_and_starts_close(
    source: str, target: str, tmp_path: Path
) -> None:
    donor = random_network(VARIANTS[source], seed=3)
    network = transplant(donor, VARIANTS[target], tmp_path)
    ours, theirs = network.state_dict(), donor.state_dict()
    new = {
        name.partition(".")[0]
        for name in ours
        if not torch.equal(ours[name], theirs.get(name, ours[name] + 1))
    }
    gate = {"state_gate"} if VARIANTS[target].gate.kind == "channel" else set()
    assert new == {"pose_memory"} | gate
    # What fast weights say of the first picture itself cannot be carried over to slots.
    fast = VARIANTS[source].memory == MEM3R.memory
    before, after = depths(donor, 1), depths(network, 1)
    assert (after - before).abs().max() < (0.2 if fast else 0.03) * before.abs().max()
    assert torch.isfinite(depths(network, 5)).all()


def test_the_same_seed_gives_the_same_new_parts(tmp_path: Path) -> None:
    donor = random_network(CUT3R)
    torch.manual_seed(1)
    first = transplant(donor, MEM3R, tmp_path).state_dict()
    torch.manual_seed(2)
    second = transplant(donor, MEM3R, tmp_path).state_dict()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_a_memory_of_another_size_starts_new(tmp_path: Path) -> None:
    donor = random_network(CUT3R)
    larger = replace(CUT3R, memory=replace(CUT3R.memory, slots=12))
    network = transplant(donor, larger, tmp_path)
    assert network.state_dict()["pose_memory.slots"].shape[1] == 12


def test_another_decoder_is_refused(tmp_path: Path) -> None:
    wider = replace(MEM3R, decoder=replace(MEM3R.decoder, state_tokens=24))
    with pytest.raises(WeightsError, match=r"decoder\.initial_tokens"):
        transplant(random_network(CUT3R), wider, tmp_path)


def test_another_variant_is_refused_unless_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "mem3r.safetensors"
    write_checkpoint(random_network(MEM3R), path)
    with pytest.raises(WeightsError, match="does not fit"):
        network_from(read_checkpoint(path), VARIANTS["no-gate"])


def test_an_average_lies_between_and_keeps_its_network(tmp_path: Path) -> None:
    first, second = (random_network(MEM3R, seed) for seed in (1, 2))
    paths = [tmp_path / name for name in ("first.safetensors", "second.safetensors")]
    for network, path in zip((first, second), paths, strict=True):
        write_checkpoint(network, path)
    mean = convert_checkpoint(paths[0], tmp_path / "mean.safetensors", MEM3R, paths[1], share=0.25)
    written = network_from(read_checkpoint(tmp_path / "mean.safetensors"), MEM3R).state_dict()
    for name, tensor in mean.state_dict().items():
        wanted = 0.75 * first.state_dict()[name] + 0.25 * second.state_dict()[name]
        torch.testing.assert_close(tensor, wanted, msg=name)
        assert torch.equal(tensor, written[name])


def test_a_converted_network_keeps_the_picture_size_it_was_trained_on(tmp_path: Path) -> None:
    trained = replace(MEM3R, picture_size=MEM3R.picture_size // 2)
    write_checkpoint(random_network(trained), tmp_path / "trained.safetensors")
    convert_checkpoint(tmp_path / "trained.safetensors", tmp_path / "out.safetensors", MEM3R)
    recorded = recorded_config(tmp_path / "out.safetensors")
    assert recorded == trained


def test_only_shares_and_equal_networks_are_averaged(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        average_into(random_network(MEM3R, 1), random_network(MEM3R, 2), 1.5)
    wider = replace(MEM3R, decoder=replace(MEM3R.decoder, depth=MEM3R.decoder.depth + 4))
    with pytest.raises(WeightsError, match="same network"):
        average_into(random_network(MEM3R, 1), random_network(wider, 1), 0.5)
