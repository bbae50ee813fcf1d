"""Helps for learning to compare two pictures."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mem3r_plugin.model import NetworkConfig
from mem3r_plugin.model.config import EncoderConfig
from mem3r_plugin.model.network import ReconstructionNetwork
from mem3r_plugin.model.weights import random_network
from mem3r_plugin.training.matching import PARTS, TokenFlow, begin_by_copying
from tests.model.networks import CUT3R, MEM3R

GRID = (3, 4)
"""Rows and columns; the state's 20 tokens have four columns, too."""
TOKENS = GRID[0] * GRID[1]


def copying(config: NetworkConfig) -> ReconstructionNetwork:
    network = random_network(config)
    begin_by_copying(network)
    return network


def pictures(config: NetworkConfig) -> tuple[Tensor, Tensor]:
    """Encoder tokens (4, 12, width) of two pictures that have nothing in common."""
    first, second = torch.randn(2, 4, TOKENS, config.encoder.width).unbind()
    return first, second


def seen(network: ReconstructionNetwork, tokens: Tensor) -> Tensor:
    """What the decoders start from (4, 12, width), normalised."""
    embedded = network.decoder.embed_image(tokens)
    return F.layer_norm(embedded, embedded.shape[-1:])


def likeness(a: Tensor, b: Tensor) -> float:
    return float(F.cosine_similarity(a, b, dim=-1).mean())


@pytest.mark.parametrize("config", [MEM3R, CUT3R], ids=lambda config: config.name)
@torch.no_grad()
def test_the_state_begins_as_the_last_picture(config: NetworkConfig) -> None:
    torch.manual_seed(0)
    network = copying(config)
    first, second = pictures(config)
    _, after_first = network.recur(network.initial_state(4), first, GRID)
    _, after_second = network.recur(after_first, second, GRID)
    held, renewed = after_first.tokens[:, :TOKENS], after_second.tokens[:, :TOKENS]
    assert likeness(held, seen(network, first)) > 0.8
    assert abs(likeness(held.roll(1, 1), seen(network, first))) < 0.2
    assert likeness(renewed, seen(network, second)) > 0.8
    assert likeness(renewed, seen(network, first)) < 0.4


@torch.no_grad()
def test_image_tokens_look_at_the_state_of_their_own_place() -> None:
    torch.manual_seed(0)
    network = copying(MEM3R)
    first, second = pictures(MEM3R)
    _, state = network.recur(network.initial_state(4), first, GRID)
    changed = state.tokens.clone()
    changed[:, 5] += torch.randn(4, changed.shape[-1])
    answers = []
    for tokens in (state.tokens, changed):
        decoded = network.decoder(tokens, torch.zeros(4, 1, tokens.shape[-1]), second, GRID)
        answers.append(decoded.levels[0][:, 1:])
    difference = (answers[1] - answers[0]).norm(dim=-1).mean(dim=0)
    assert int(difference.argmax()) == 5


def test_encoder_and_heads_keep_what_they_know() -> None:
    before, after = random_network(MEM3R).state_dict(), copying(MEM3R).state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    parts = ("decoder.state_", "decoder.embed_state", "state_gate", "decoder.image_blocks")
    assert all(name.startswith(parts) for name in changed)
    assert all("cross_attention" in name for name in changed if "image_blocks" in name)


def test_everything_still_learns() -> None:
    network = copying(MEM3R).train()
    first, second = pictures(MEM3R)
    _, state = network.recur(network.initial_state(4), first, GRID)
    recurrence, _ = network.recur(state, second, GRID)
    recurrence.decoded.levels[-1].square().sum().backward()
    used = {n: p for n, p in network.decoder.named_parameters() if "norm_context" not in n}
    assert all(p.grad is not None and bool(p.grad.any()) for p in used.values())


def test_token_flow_compares_neighbouring_views() -> None:
    flow = TokenFlow(EncoderConfig(width=64, depth=2, heads=2))
    tokens = torch.randn(2, 3, TOKENS, 64)
    motion = flow(tokens, GRID)
    assert motion.shape == (2, 2, TOKENS, PARTS, 2)
    tokens[:, 0] = 0
    changed = flow(tokens, GRID)
    assert not torch.allclose(changed[:, 0], motion[:, 0])
    torch.testing.assert_close(changed[:, 1], motion[:, 1])
