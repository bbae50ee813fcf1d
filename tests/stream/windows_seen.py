"""How many frames pass through the network together."""

from __future__ import annotations

import pytest

from mem3r_plugin.stream.passage import NetworkPassage


def note_windows(
    monkeypatch: pytest.MonkeyPatch, passage: type[NetworkPassage], method: str
) -> list[int]:
    """A list that grows by the number of frames at every call of a passage's `take` or `begin`."""
    sizes: list[int] = []
    original = getattr(passage, method)

    def noted(self, state, images):
        sizes.append(len(images))
        return original(self, state, images)

    monkeypatch.setattr(passage, method, noted)
    return sizes
