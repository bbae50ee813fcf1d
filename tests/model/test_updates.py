"""Update rules: the cheap forms equal the definitions, and plug-ins are found."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mem3r_plugin.errors import ConfigError
from mem3r_plugin.model.updates import UpdateContext, available_rules, load_rule, registry
from mem3r_plugin.model.updates.filt3r import MEASUREMENT, MOVING, STILL, FILT3RUpdate
from mem3r_plugin.model.updates.memix import WRITTEN, MeMixUpdate
from mem3r_plugin.model.updates.plain import PlainUpdate
from mem3r_plugin.model.updates.ttsa3r import TTSA3RUpdate
from mem3r_plugin.model.updates.ttt3r import TTT3RUpdate

BATCH, HEADS, STATE, IMAGE, CHANNELS, LAYERS = 2, 3, 7, 11, 8, 4


def queries_and_keys() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        (
            torch.randn(BATCH, HEADS, STATE, CHANNELS, generator=generator),
            torch.randn(BATCH, HEADS, 1 + IMAGE, CHANNELS, generator=generator),
        )
        for _ in range(LAYERS)
    ]


def attention_logits(layers: list[tuple[Tensor, Tensor]]) -> Tensor:
    """The matrices the references materialise: (layers, batch, heads, state, 1 + image)."""
    return torch.stack([query @ key.mT / CHANNELS**0.5 for query, key in layers])


def context(first: bool = False, kept: dict[str, Tensor] | None = None) -> UpdateContext:
    generator = torch.Generator().manual_seed(1)
    return UpdateContext(
        first,
        True,
        torch.randn(BATCH, STATE, 16, generator=generator),
        torch.randn(BATCH, STATE, 16, generator=generator),
        torch.randn(BATCH, IMAGE, 24, generator=generator),
        kept or {},
    )


def test_ttt3r_equals_its_definition() -> None:
    layers = queries_and_keys()
    step = TTT3RUpdate().step()
    for query, key in layers:
        step.observer(query, key)
    gate = step.finish(context()).gate
    expected = torch.sigmoid(attention_logits(layers).mean(dim=(0, 2, 4)))
    assert gate is not None
    torch.testing.assert_close(gate.squeeze(-1), expected)


def test_ttsa3r_equals_its_definition() -> None:
    layers, now = queries_and_keys(), context()
    generator = torch.Generator().manual_seed(2)
    before = {
        "candidate": torch.randn(BATCH, STATE, 16, generator=generator),
        "image_tokens": torch.randn(BATCH, IMAGE, 24, generator=generator),
    }
    step = TTSA3RUpdate().step()
    for query, key in layers:
        step.observer(query, key)
    update = step.finish(context(kept=before))
    moved = (now.candidate - before["candidate"]).norm(dim=-1)
    temporal = torch.sigmoid(moved / moved.mean(-1, keepdim=True) - 1.5)
    changed = 1 - torch.cosine_similarity(now.image_tokens, before["image_tokens"], dim=-1)
    attended = attention_logits(layers)[..., 1:].mean(dim=(0, 2)).abs()
    spatial = torch.sigmoid((attended * changed[:, None]).amax(-1))
    assert update.gate is not None
    torch.testing.assert_close(update.gate.squeeze(-1), temporal * spatial)
    assert torch.equal(update.kept["candidate"], now.candidate)


def test_memix_writes_the_least_aligned_tokens_and_no_other() -> None:
    layers = queries_and_keys()
    step = MeMixUpdate().step()
    for query, key in layers:
        step.observer(query, key)
    gate = step.finish(context()).gate
    assert gate is not None
    aligned = attention_logits(layers)[-1, ..., 1:].sum(dim=1).mean(dim=-1)
    spared = STATE - round(WRITTEN * STATE)
    assert spared == 1
    expected = torch.ones(BATCH, STATE).scatter(1, aligned.topk(spared).indices, 0.0)
    assert torch.equal(gate.squeeze(-1), expected)


def test_memix_spares_the_share_of_the_paper() -> None:
    step = MeMixUpdate().step()
    step.observer(torch.zeros(1, HEADS, 768, CHANNELS), torch.zeros(1, HEADS, 9, CHANNELS))
    gate = step.finish(
        context()
    ).gate  # all equally aligned: still exactly so many, always the same
    assert gate is not None
    assert torch.equal(gate.flatten(), torch.cat([torch.ones(708), torch.zeros(60)]))


def filtered(candidates: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """State (batch, tokens, width) after FILT3R has seen the candidates, and its gains (batch, tokens)."""
    state, gains = torch.zeros_like(candidates[0]), []
    kept: dict[str, Tensor] = {}
    for index, candidate in enumerate(candidates):
        update = (
            FILT3RUpdate()
            .step()
            .finish(UpdateContext(index == 0, True, state, candidate, torch.zeros(1, 1, 1), kept))
        )
        gate = torch.ones_like(candidate[..., :1]) if update.gate is None else update.gate
        state, kept = gate * candidate + (1 - gate) * state, update.kept
        gains.append(gate.squeeze(-1))
    return state, gains


def noisy(count: int, seed: int = 3) -> list[Tensor]:
    """Measurements of zero with deviation one."""
    generator = torch.Generator().manual_seed(seed)
    return list(torch.randn(count, BATCH, STATE, 16, generator=generator))


def test_filt3r_trusts_a_scene_more_the_longer_it_stands_still() -> None:
    state, gains = filtered(noisy(60))
    assert all(bool((later < earlier).all()) for earlier, later in pairwise(gains[:8]))
    settled = (STILL + (STILL**2 + 4 * STILL * MEASUREMENT) ** 0.5) / 2
    settled /= settled + MEASUREMENT  # of the Riccati equation p = p r / (p + r) + q
    torch.testing.assert_close(gains[-1], torch.full_like(gains[-1], settled), rtol=1e-3, atol=0)
    assert state.std() < 0.4  # averages what single measurements scatter by 1


def test_filt3r_opens_for_the_tokens_that_change_and_only_those() -> None:
    candidates = noisy(40)
    for candidate in candidates[30:]:
        candidate[:, 0] += 100
    _, gains = filtered(candidates)
    jump = gains[30]
    assert (jump[:, 0] > 2 * gains[29][:, 0]).all()
    torch.testing.assert_close(jump[:, 1:], gains[29][:, 1:], rtol=0.02, atol=0)
    assert (gains[-1][:, 0] < jump[:, 0]).all()


def test_filt3r_comes_to_rest_on_a_still_picture() -> None:
    candidate = noisy(1)[0]
    state, gains = filtered([candidate] * 30)
    torch.testing.assert_close(state, candidate)
    assert (gains[-1] < gains[1]).all()


@given(
    scale=st.floats(1e-6, 1e4),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    seed=st.integers(0, 99),
)
def test_filt3r_gains_lie_between_zero_and_one(scale: float, dtype: torch.dtype, seed: int) -> None:
    candidates = [(scale * candidate).to(dtype) for candidate in noisy(6, seed)]
    _, gains = filtered(candidates)
    largest = (1.5 + MOVING) / (1.5 + MOVING + MEASUREMENT)
    for gain in gains[1:]:
        assert gain.dtype == torch.float32
        assert ((gain > 0) & (gain <= largest + 1e-6)).all()


def test_filt3r_learns_nothing_from_a_frame_that_does_not_update() -> None:
    kept = FILT3RUpdate().step().finish(context(first=True)).kept
    asked = UpdateContext(False, False, *(torch.zeros(BATCH, STATE, 16),) * 2, torch.zeros(0), kept)
    assert FILT3RUpdate().step().finish(asked).kept is kept


@pytest.mark.parametrize(
    "rule", [PlainUpdate(), TTT3RUpdate(), TTSA3RUpdate(), MeMixUpdate(), FILT3RUpdate()]
)
def test_first_frame_is_written_whole(rule: PlainUpdate) -> None:
    assert rule.step().finish(context(first=True)).gate is None


def test_ours_are_installed() -> None:
    assert {"plain", "ttt3r", "ttsa3r", "memix", "filt3r"} <= set(available_rules())
    assert isinstance(load_rule("ttt3r"), TTT3RUpdate)


def test_unknown_rule_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"unknown update rule 'magic'.*plain.*ttt3r"):
        load_rule("magic")


def test_a_third_party_rule_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """What another distribution registers is loaded without touching this package."""
    entry = EntryPoint("half", f"{__name__}:HalfUpdate", registry.GROUP)
    monkeypatch.setattr(
        registry, "entry_points", lambda **query: EntryPoints([entry]).select(**query)
    )
    assert available_rules() == ["half"]
    assert isinstance(load_rule("half"), HalfUpdate)


class HalfUpdate(PlainUpdate):
    """A rule of another package."""
