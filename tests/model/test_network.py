"""The network as a whole: state handling, swapped parts, batches, selected heads."""

from __future__ import annotations

import copy

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from mem3r_plugin.configuration import load_preset
from mem3r_plugin.errors import ConfigError
from mem3r_plugin.model import NetworkConfig, ReconstructionNetwork, RecurrentState
from mem3r_plugin.model.config import DecoderConfig, EncoderConfig
from mem3r_plugin.model.updates import load_rule
from mem3r_plugin.model.weights import random_network
from tests.model.networks import CUT3R, MEM3R

SIZE = (48, 64)
RULES = ("plain", "ttt3r", "ttsa3r", "memix", "filt3r")


def pictures(count: int, batch: int = 1) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(batch, 3, *SIZE, generator=generator) * 2 - 1 for _ in range(count)]


@torch.inference_mode()
def stream(
    network: ReconstructionNetwork,
    images: list[Tensor],
    rule: str = "plain",
    state: RecurrentState | None = None,
) -> tuple[list[Tensor], RecurrentState]:
    """Poses of all frames, and the state after them."""
    state = state or network.initial_state(len(images[0]))
    poses = []
    for image in images:
        output, state = network.step(state, network.encode(image), SIZE, rule=load_rule(rule))
        poses.append(output.pose)
    return poses, state


@pytest.mark.parametrize(
    ("preset", "parameters", "tolerance"), [("cut3r", 793_307_858, 0), ("mem3r", 643.5e6, 0.1e6)]
)
def test_full_size_parameter_count(preset: str, parameters: float, tolerance: float) -> None:
    with torch.device("meta"):
        network = ReconstructionNetwork(load_preset("model", preset, NetworkConfig()))
    assert abs(sum(p.numel() for p in network.parameters()) - parameters) <= tolerance


def test_parts_of_mem3r_have_the_size_the_paper_gives() -> None:
    with torch.device("meta"):
        network = ReconstructionNetwork(NetworkConfig())
    gate = network.state_gate
    assert gate is not None
    assert sum(p.numel() for p in gate.parameters()) == 984_192
    memory = sum(p.numel() for p in network.pose_memory.parameters())
    assert memory == pytest.approx(1.56e6, rel=0.01)


@pytest.mark.parametrize("config", [MEM3R, CUT3R], ids=lambda config: config.name)
@pytest.mark.parametrize("rule", RULES)
def test_state_survives_saving_exactly(config: NetworkConfig, rule: str) -> None:
    network = random_network(config)
    images = pictures(6)
    _, middle = stream(network, images[:3], rule)
    restored = RecurrentState.from_tensors(load(save(middle.to_tensors())))
    straight, end = stream(network, images[3:], rule, middle)
    resumed, resumed_end = stream(network, images[3:], rule, restored)
    for ours, theirs in zip(straight, resumed, strict=True):
        assert torch.equal(ours, theirs)
    for name, tensor in end.to_tensors().items():
        assert torch.equal(tensor, resumed_end.to_tensors()[name]), name


@pytest.mark.parametrize("config", [MEM3R, CUT3R], ids=lambda config: config.name)
def test_step_changes_neither_network_nor_state(config: NetworkConfig) -> None:
    network = random_network(config)
    _, state = stream(network, pictures(2))
    kept_weights = copy.deepcopy(network.state_dict())
    kept_state = {k: v.clone() for k, v in state.to_tensors().items()}
    stream(network, pictures(3), "ttsa3r", state)
    assert all(torch.equal(v, kept_weights[k]) for k, v in network.state_dict().items())
    assert all(torch.equal(v, kept_state[k]) for k, v in state.to_tensors().items())


@pytest.mark.parametrize("config", [MEM3R, CUT3R], ids=lambda config: config.name)
@pytest.mark.parametrize("rule", RULES)
def test_frame_without_update_leaves_no_trace(config: NetworkConfig, rule: str) -> None:
    network = random_network(config)
    _, state = stream(network, pictures(3), rule)
    with torch.inference_mode():
        tokens = network.encode(pictures(4)[-1])
        _, after = network.step(state, tokens, SIZE, rule=load_rule(rule), update=False)
    before, now = state.to_tensors(), after.to_tensors()
    del before["frames"], now["frames"]
    assert all(torch.equal(now[name], before[name]) for name in before)


@pytest.mark.parametrize("config", [MEM3R, CUT3R], ids=lambda config: config.name)
@pytest.mark.parametrize("rule", RULES)
def test_batched_streams_equal_single_ones(config: NetworkConfig, rule: str) -> None:
    network = random_network(config)
    images = pictures(4, batch=3)
    together, _ = stream(network, images, rule)
    for index in range(3):
        alone, _ = stream(network, [image[index : index + 1] for image in images], rule)
        for ours, theirs in zip(together, alone, strict=True):
            torch.testing.assert_close(ours[index : index + 1], theirs, rtol=1e-4, atol=1e-5)


def test_first_frame_is_not_gated_by_rules() -> None:
    network = random_network(MEM3R)
    plain, *others = (stream(network, pictures(1), rule)[1].tokens for rule in RULES)
    assert all(torch.equal(other, plain) for other in others)


@pytest.mark.parametrize("rule", RULES[1:])
def test_rules_write_less_than_plain(rule: str) -> None:
    """A rule's gate lies in [0, 1], so every token moves towards the candidate, but not past it."""
    network = random_network(MEM3R)
    images = pictures(2)
    _, state = stream(network, images[:1], rule)
    plain = (stream(network, images[1:], "plain", state)[1].tokens - state.tokens).abs()
    gated = (stream(network, images[1:], rule, state)[1].tokens - state.tokens).abs()
    assert (gated <= plain + 1e-6).all()
    assert gated.sum() < plain.sum()


def test_only_the_heads_asked_for_are_computed() -> None:
    network = random_network(MEM3R)
    tokens, state = network.encode(pictures(1)[0]), network.initial_state()
    output, _ = network.step(state, tokens, SIZE, heads=())
    assert output.points_self is output.points_world is output.rgb is None
    output, _ = network.step(state, tokens, SIZE, heads=("self", "world", "rgb"))
    assert output.points_self is not None
    assert output.points_world is not None
    assert output.rgb is not None
    assert output.points_self.shape == output.points_world.shape == (1, *SIZE, 3)
    assert output.confidence_self is not None
    assert output.confidence_self.shape == (1, *SIZE)
    assert (output.confidence_self >= 1).all()
    assert (output.rgb.abs() < 1).all()


def test_poses_are_rigid() -> None:
    poses, _ = stream(random_network(MEM3R), pictures(3))
    network_poses = torch.cat(poses)
    assert (network_poses[:, 3] >= 0).all()
    torch.testing.assert_close(network_poses[:, 3:].norm(dim=-1), torch.ones(3))


@pytest.mark.parametrize("rule_name", ["ttsa3r", "filt3r"])
def test_a_still_picture_is_survived(rule_name: str) -> None:
    """With nothing moving at all these would divide zero by zero."""
    network = random_network(MEM3R)
    context_state = network.initial_state()
    still = pictures(1)[0]
    with torch.inference_mode():
        rule = load_rule(rule_name)
        for _ in range(4):
            output, context_state = network.step(
                context_state, network.encode(still), SIZE, rule=rule, update=False
            )
            assert torch.isfinite(output.pose).all()
        assert torch.isfinite(context_state.tokens).all()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"encoder": EncoderConfig(width=96)}, "encoder.width"),
        ({"decoder": DecoderConfig(width=48, state_heads=5)}, "decoder.state_heads"),
        ({"decoder": DecoderConfig(depth=6)}, "decoder.depth"),
    ],
)
def test_impossible_sizes_are_refused(config: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        NetworkConfig(**config)  # type: ignore[arg-type]


def test_size_that_is_no_multiple_of_the_patch_is_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 16"):
        random_network(MEM3R).encode(torch.zeros(1, 3, 50, 64))
