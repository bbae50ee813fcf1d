"""Update rules: the cheap forms equal the definitions, and plug-ins are found."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints

import pytest
import torch
from torch import Tensor

from mem3r_plugin.errors import ConfigError
from mem3r_plugin.model.updates import UpdateContext, available_rules, load_rule, registry
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


@pytest.mark.parametrize("rule", [PlainUpdate(), TTT3RUpdate(), TTSA3RUpdate()])
def test_first_frame_is_written_whole(rule: PlainUpdate) -> None:
    assert rule.step().finish(context(first=True)).gate is None


def test_ours_are_installed() -> None:
    assert {"plain", "ttt3r", "ttsa3r"} <= set(available_rules())
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
