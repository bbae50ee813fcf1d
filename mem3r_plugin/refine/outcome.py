"""Which result of a refinement is kept: judged by the score, never worse than the scan was."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from mem3r_plugin.files import write_atomically
from mem3r_plugin.refine.score import ScanScore, is_worse
from mem3r_plugin.refine.writing import Result

_CLEARLY = 1.1
"""Depth that disagrees by more than so many times what it did before is clearly worse."""

REASONS: dict[Result, str] = {
    "refined": "the refined poses explain the pictures at least as well, and depth agrees",
    "aligned": "the refined poses explain the pictures better, but depth from neighbours disagreed more "
    "than the network's depth does, which was aligned to the points and kept",
    "own": "the refined poses explain the pictures worse than the scan's own, which were kept",
}


class ScoreBook:
    """Scores that were worked out already, kept in a file so that an interruption does not cost them."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._records = json.loads(file.read_text()) if file.exists() else {}

    def get(self, result: Result, score: Callable[[], ScanScore]) -> ScanScore:
        """The score of a result; `score` works it out the first time."""
        if result not in self._records:
            self._records[result] = asdict(score())
            write_atomically(self._file, json.dumps(self._records).encode())
        return ScanScore.from_record(self._records[result])


def choose_result(score: Callable[[Result], ScanScore]) -> Result:
    """The best result: refined poses unless they are worse, then whichever depth agrees better.

    Poses are judged by what the pictures show. Depth is judged at the refined poses only, because depth
    maps of a scan that has understood nothing, flat and never moving, agree with each other perfectly.

    Args:
        score: Gives the score of a result, whose frames it may have to write first.
    """
    own, refined = score("own"), score("refined")
    if is_worse(refined, own):
        return "own"
    if not _clearly_worse(refined.depth_disagreement, own.depth_disagreement):
        return "refined"
    aligned = score("aligned").depth_disagreement
    return "aligned" if _clearly_worse(refined.depth_disagreement, aligned) else "refined"


def _clearly_worse(disagreement: float | None, than: float | None) -> bool:
    if disagreement is None or than is None:
        return disagreement is None and than is not None
    return disagreement > _CLEARLY * than
