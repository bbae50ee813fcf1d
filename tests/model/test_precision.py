"""The network in bfloat16: where it is chosen, what stays in float32, and how near the answers are."""

from __future__ import annotations

import copy
import weakref

import pytest
import torch
from torch import Tensor, nn

from mem3r_plugin.model import ReconstructionNetwork, packed, precision
from mem3r_plugin.model.blocks import MLP, EncoderBlock
from mem3r_plugin.model.memory import FastWeightMemory
from mem3r_plugin.model.packed import PackedLinear, can_pack
from mem3r_plugin.model.precision import Precision, arithmetic, choose_precision, convert
from mem3r_plugin.model.weights import load_network, random_network
from tests.model.networks import CUT3R, MEM3R

CPU = torch.device("cpu")
SIZE = (48, 64)
ROUNDING = 2**-7
"""One step of bfloat16, beside the number."""

needs_packing = pytest.mark.skipif(not can_pack(), reason="this torch has no oneDNN to pack for")


@pytest.fixture
def fast(monkeypatch):
    """A machine that is fast in bfloat16, whatever this one is."""
    monkeypatch.setattr(precision, "fast_in_bfloat16", lambda device: True)


def small_network(bears_bfloat16: bool = True) -> ReconstructionNetwork:
    network = random_network(MEM3R)
    if not bears_bfloat16:
        # Attention of huge queries picks single tokens: the format's rounding decides which.
        with torch.no_grad():
            for block in network.image_encoder.blocks:
                assert isinstance(block, EncoderBlock)
                block.attention.qkv.weight *= 300
                block.attention.out.weight *= 30
    return network


def answers(
    network: ReconstructionNetwork, wanted: Precision, frames: int = 5
) -> tuple[Tensor, Tensor]:
    """Poses (frames, 7) and depths (frames, height, width) of smooth pictures, one after the other."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(frames, 3, 6, 8, generator=generator)
    pictures = nn.functional.interpolate(coarse, SIZE, mode="bilinear") * 2 - 1
    poses, depths = [], []
    with torch.inference_mode(), arithmetic(CPU, wanted):
        state = network.initial_state()
        for tokens in network.encode(pictures).split(1):
            output, state = network.step(state, tokens, SIZE)
            assert output.points_self is not None
            poses.append(output.pose)
            depths.append(output.points_self[..., 2])
    return torch.cat(poses), torch.cat(depths)


def require_near(network: ReconstructionNetwork, pose_error: float) -> None:
    """In bfloat16 the same pose to `pose_error` of its length, and depth to one percent in the median."""
    exact_pose, exact_depth = answers(network, "float32")
    pose, depth = answers(convert(copy.deepcopy(network), "bfloat16"), "bfloat16")
    assert pose.dtype == depth.dtype == torch.float32
    assert not torch.equal(depth, exact_depth)
    assert ((depth - exact_depth).abs() / exact_depth.abs()).median() < 1e-2
    length = exact_pose[:, :3].norm(dim=-1, keepdim=True).clamp_min(1)
    assert ((pose - exact_pose).abs() / length).max() < pose_error


# -- choosing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", ["float32", "bfloat16"])
def test_a_wish_is_granted_without_a_trial(wanted, monkeypatch):
    def trial(*_: object) -> None:
        raise AssertionError("no trial is needed")

    monkeypatch.setattr(precision, "_trial", trial)
    for fast in (True, False):
        monkeypatch.setattr(precision, "fast_in_bfloat16", lambda device, fast=fast: fast)
        assert choose_precision(small_network(), wanted) == wanted


def test_a_machine_slow_in_bfloat16_computes_in_float32(monkeypatch):
    monkeypatch.setattr(precision, "fast_in_bfloat16", lambda device: False)
    assert choose_precision(small_network(), "auto") == "float32"


def test_bfloat16_where_it_is_fast_and_agrees(fast):
    assert [choose_precision(small_network(), "auto") for _ in range(3)] == ["bfloat16"] * 3


def test_a_network_that_does_not_bear_bfloat16_stays_in_float32(fast):
    network = small_network(bears_bfloat16=False)
    assert [choose_precision(network, "auto") for _ in range(3)] == ["float32"] * 3


def test_infinite_answers_are_no_agreement(fast):
    network = small_network()
    with torch.no_grad():
        network.heads.pose.fc2.bias.fill_(torch.inf)
    assert choose_precision(network, "auto") == "float32"


def test_the_trial_leaves_the_network_and_the_random_numbers_alone(fast):
    network = small_network()
    before = copy.deepcopy(network.state_dict())
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    choose_precision(network, "auto")
    assert torch.equal(torch.rand(3), expected)
    after = network.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_the_bundled_network_bears_bfloat16(fast):
    assert choose_precision(load_network("mem3r-tiny"), "auto") == "bfloat16"


# -- converting ----------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [MEM3R, CUT3R], ids=lambda config: config.name)
def test_exact_parts_stay_in_float32(config):
    network = random_network(config)
    exact = {name for name, module in network.named_modules() if module in network.exact_parts()}
    convert(network, "bfloat16")
    low = {n for n, p in network.named_parameters() if p.dtype == torch.bfloat16}
    high = {n for n, p in network.named_parameters() if p.dtype == torch.float32}
    for part in exact:
        parameters = {name for name in low | high if name.startswith(f"{part}.")}
        assert parameters
        assert parameters <= high
    assert any("reassemble" in name for name in low)
    assert {"image_encoder.norm.weight", "decoder.initial_tokens"} <= high
    for part in network.exact_parts():
        assert not any(isinstance(module, PackedLinear) for module in part.modules())


def test_float32_keeps_its_numbers_and_nearly_its_answers():
    network = small_network()
    before, expected = copy.deepcopy(network.state_dict()), answers(network, "float32")
    convert(network, "float32")
    after = network.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert all(tensor.dtype == before[name].dtype for name, tensor in after.items())
    for answer, wanted in zip(answers(network, "float32"), expected, strict=True):
        torch.testing.assert_close(answer, wanted, rtol=1e-4, atol=1e-5)


def test_state_and_fast_weights_stay_in_float32():
    network = convert(small_network(), "bfloat16")
    assert isinstance(network.pose_memory, FastWeightMemory)
    assert network.pose_memory.initial_weights.dtype == torch.float32
    with torch.inference_mode(), arithmetic(CPU, "bfloat16"):
        state = network.initial_state()
        for _ in range(2):
            remembered = [state.tokens, *state.memory.values()]
            assert {tensor.dtype for tensor in remembered} == {torch.float32}
            _, state = network.step(state, network.encode(torch.zeros(1, 3, *SIZE)), SIZE)


def test_a_small_network_agrees_with_itself_in_float32():
    # So few channels average less of the rounding away than those of networks in use.
    require_near(small_network(), pose_error=2e-2)


def test_the_bundled_network_agrees_with_itself_in_float32():
    require_near(load_network("mem3r-tiny"), pose_error=1e-2)


@needs_packing
def test_float32_is_packed_too():
    network = convert(small_network(), "float32")
    assert any(isinstance(module, PackedLinear) for module in network.modules())
    for part in network.exact_parts():
        assert not any(isinstance(module, PackedLinear) for module in part.modules())


@needs_packing
def test_without_onednn_the_answers_are_the_same_but_for_rounding(monkeypatch):
    network = small_network()
    with_packing = convert(copy.deepcopy(network), "bfloat16")
    assert any(isinstance(module, PackedLinear) for module in with_packing.modules())
    monkeypatch.setattr(precision, "can_pack", lambda: False)
    without = convert(network, "bfloat16")
    assert not any(isinstance(module, PackedLinear) for module in without.modules())
    pose, depth = answers(with_packing, "bfloat16")
    other_pose, other_depth = answers(without, "bfloat16")
    torch.testing.assert_close(pose, other_pose, rtol=0, atol=3e-2)
    assert ((depth - other_depth).abs() / other_depth.abs()).median() < 1e-2


@pytest.mark.parametrize("missing", ["available", "enabled", "operation"])
def test_packing_needs_onednn(missing, monkeypatch):
    if missing == "available":
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    elif missing == "operation":
        monkeypatch.setattr(packed, "_OPERATIONS", ("no_such_operation",))
    if missing == "enabled":
        with torch.backends.mkldnn.flags(enabled=False):
            assert not can_pack()
    else:
        assert not can_pack()


# -- packed layers -------------------------------------------------------------------------------


def inputs() -> dict[str, Tensor]:
    tokens = torch.randn(3, 20, 64, generator=torch.Generator().manual_seed(2))
    return {
        "2-D": tokens[0],
        "3-D": tokens,
        "transposed": tokens.permute(2, 0, 1).contiguous().permute(1, 2, 0),
        "every other token": tokens[:, ::2],
        "one token": tokens[:, :1],
        "bfloat16": tokens.to(torch.bfloat16),
    }


@needs_packing
@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize("name", inputs())
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_packed_layers_compute_what_linear_ones_do(dtype, name, gelu):
    torch.manual_seed(0)
    linear, tokens = nn.Linear(64, 48).to(dtype), inputs()[name]
    with torch.inference_mode():
        exact = nn.functional.linear(
            tokens.to(dtype).double(), linear.weight.double(), linear.bias.double()
        )
        exact = nn.functional.gelu(exact) if gelu else exact
        result = PackedLinear(linear, gelu=gelu)(tokens)
    assert result.dtype == dtype
    assert result.shape == exact.shape
    rounding = ROUNDING if dtype == torch.bfloat16 else 1e-5
    torch.testing.assert_close(result.double(), exact, rtol=rounding, atol=rounding * 0.05)


@needs_packing
@pytest.mark.parametrize("wanted", ["float32", "bfloat16"])
def test_layers_are_freed_while_others_are_packed(wanted, monkeypatch):
    layers: list[weakref.ref[nn.Linear]] = []
    alive: list[int] = []

    class Watched(PackedLinear):
        def __init__(self, linear: nn.Linear, *, gelu: bool = False) -> None:
            alive.append(sum(layer() is not None for layer in layers))
            layers.append(weakref.ref(linear))
            super().__init__(linear, gelu=gelu)

    monkeypatch.setattr(precision, "PackedLinear", Watched)
    convert(small_network(), wanted)
    assert len(layers) > 20
    assert max(alive) <= 4  # those of one block


@needs_packing
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_packed_layers_are_saved_as_linear_ones(dtype):
    linear = nn.Linear(64, 48).to(dtype)
    saved = PackedLinear(linear).state_dict()
    assert list(saved) == ["weight", "bias"]
    assert all(torch.equal(saved[name], each) for name, each in linear.state_dict().items())


@needs_packing
def test_the_gelu_of_a_packed_mlp_is_done_once():
    network = small_network()
    mlp = network.decoder.image_blocks[0].get_submodule("mlp")
    assert isinstance(mlp, MLP)
    tokens = torch.randn(1, 12, mlp.fc1.in_features, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        expected = mlp(tokens)
        convert(network, "bfloat16")
        assert isinstance(mlp.fc1, PackedLinear)
        difference = (mlp(tokens).float() - expected).abs().max()
    assert difference < 2e-2 * expected.abs().max()
