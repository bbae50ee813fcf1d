"""The fast-weight memory learns, forgets, and lets gradients through."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mem3r_plugin.model.memory.fast_weights import (
    MAX_GROWTH,
    FastWeightMemory,
    FastWeights,
    apply_fast_weights,
    fast_weight_gradient,
)

ENCODER_WIDTH, WIDTH, HEADS = 32, 24, 3


@pytest.fixture
def memory() -> FastWeightMemory:
    torch.manual_seed(0)
    module = FastWeightMemory(ENCODER_WIDTH, WIDTH, HEADS, base_rate=0.001, max_decay=0.01)
    module.reset_rates()
    return module


@pytest.fixture
def feature() -> Tensor:
    return torch.randn(2, ENCODER_WIDTH, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def pose_token() -> Tensor:
    return torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("seed", range(5))
def test_closed_form_gradient_agrees_with_autograd(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    weights = [random(2, HEADS, 8, 8).requires_grad_() for _ in range(3)]
    query, target = random(2, HEADS, 8), random(2, HEADS, 8)
    agreement = (apply_fast_weights(FastWeights(*weights), query) * target).sum()
    expected = torch.autograd.grad(agreement, weights)
    ours = fast_weight_gradient(FastWeights(*weights), query, target)
    for name, mine, autograd in zip(FastWeights._fields, ours, expected, strict=True):
        error = (mine - autograd).abs().max() / autograd.abs().max()
        assert error < 1e-6, name


def test_write_climbs_the_gradient_of_the_agreement(
    memory: FastWeightMemory, feature: Tensor, pose_token: Tensor
) -> None:
    """The whole write, projection included, is the step the paper states."""
    start = {k: v.clone().requires_grad_() for k, v in memory.initial(2).items()}
    agreement = (memory.read(start, feature).squeeze(1) * pose_token).sum()
    gradients = torch.autograd.grad(agreement, list(start.values()))
    keep = 1 - memory.max_decay * torch.sigmoid(memory.decay(feature))
    rates = torch.nn.functional.softplus(memory.rate(feature) + memory.base_rate)
    rates = rates.unflatten(-1, (3, HEADS))
    written = memory.write(start, feature, pose_token)
    for index, (name, gradient) in enumerate(zip(start, gradients, strict=True)):
        expected = keep[..., None, None] * start[name] + rates[:, index, :, None, None] * gradient
        torch.testing.assert_close(written[name], expected, rtol=1e-5, atol=1e-6)


def test_reads_back_nearer_to_what_was_written(
    memory: FastWeightMemory, feature: Tensor, pose_token: Tensor
) -> None:
    torch.nn.init.constant_(memory.rate.bias, -2.25)  # a rate of 0.1
    state = memory.initial(2)

    def agreement() -> Tensor:
        prior = memory.read(state, feature).squeeze(1)
        return torch.cosine_similarity(prior, pose_token, dim=-1)

    agreements = [agreement()]
    for _ in range(10):
        state = memory.write(state, feature, pose_token)
        agreements.append(agreement())
        assert (agreements[-1] > agreements[-2]).all()
    assert (agreements[-1] - agreements[0] > 0.1).all()


def test_other_pictures_are_answered_less(
    memory: FastWeightMemory, feature: Tensor, pose_token: Tensor
) -> None:
    """What is written is bound to the picture it was written with."""
    other = torch.randn(2, ENCODER_WIDTH, generator=torch.Generator().manual_seed(9))
    start = memory.initial(2)
    state = memory.write(start, feature, pose_token)

    def gain(picture: Tensor) -> Tensor:
        difference = memory.read(state, picture) - memory.read(start, picture)
        return (difference.squeeze(1) * pose_token).sum(-1)

    assert (gain(feature) > gain(other).abs()).all()


def test_decay_forgets(memory: FastWeightMemory, feature: Tensor, pose_token: Tensor) -> None:
    torch.nn.init.constant_(memory.decay.bias, 20.0)  # full forgetting: 1 % a frame
    state = memory.write(memory.initial(2), feature, pose_token)
    nothing = torch.zeros_like(pose_token)
    size = [sum(w.detach().norm().item() for w in state.values())]
    for _ in range(200):
        state = memory.write(state, feature, nothing)
        size.append(sum(w.detach().norm().item() for w in state.values()))
    assert size[-1] == pytest.approx(size[0] * 0.99**200, rel=1e-4)


def test_nothing_is_forgotten_without_decay(memory: FastWeightMemory, feature: Tensor) -> None:
    torch.nn.init.constant_(memory.decay.bias, -100.0)
    start = memory.initial(2)
    state = memory.write(start, feature, torch.zeros(2, WIDTH))
    for name, tensor in start.items():
        torch.testing.assert_close(state[name], tensor)


def test_memory_stays_bounded_however_often_it_is_written(
    memory: FastWeightMemory, feature: Tensor, pose_token: Tensor
) -> None:
    """The agreement has no maximum; unbounded ascent overflows within a few dozen writes."""
    torch.nn.init.constant_(memory.rate.bias, 1.0)
    state = memory.initial(2)
    for _ in range(300):
        state = memory.write(state, feature, pose_token)
    for initial, matrix in zip(memory.initial_weights, state.values(), strict=True):
        growth = torch.linalg.matrix_norm(matrix) / torch.linalg.matrix_norm(initial)
        assert (growth <= MAX_GROWTH * 1.0001).all()
    assert torch.isfinite(memory.read(state, feature)).all()


def test_gradients_flow_through_an_unrolled_sequence(memory: FastWeightMemory) -> None:
    """The last reading depends on every parameter and on the first picture."""
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(5, 1, ENCODER_WIDTH, generator=generator, requires_grad=True)
    state = memory.initial(1)
    for step in range(4):
        state = memory.write(state, features[step], torch.randn(1, WIDTH, generator=generator))
    memory.read(state, features[4]).square().sum().backward()
    for name, parameter in memory.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name
    assert features.grad is not None
    assert (features.grad.flatten(1).abs().amax(1) > 0).all()
