"""The rule of CUT3R and Mem3R themselves: the candidate is written whole."""

from __future__ import annotations

from mem3r_plugin.model.attention import AttentionObserver
from mem3r_plugin.model.updates.rule import Update, UpdateContext


class PlainUpdate:
    """Let every frame write everything."""

    ignores_update_flag = False
    observer: AttentionObserver | None = None

    def step(self) -> PlainUpdate:
        """There is nothing to keep apart between frames."""
        return self

    def finish(self, context: UpdateContext) -> Update:
        """No gate."""
        return Update(None, context.kept)
