"""The outcome of a check."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """The outcome of one check."""

    value: str
    """What was measured, for the table."""
    problem: str | None = None
    """What is wrong; None: nothing."""


NO_EVIDENCE = Verdict("-")
"""Nothing in the project speaks for or against it."""
