"""The score without ground truth as rows of a table."""

from __future__ import annotations

from rich.table import Table

from mem3r_plugin.refine.score import ScanScore


def add_score_rows(table: Table, *scores: ScanScore) -> None:
    """Add what is known of some scores, one column each."""
    for label, values in (
        ("depth that neighbours disagree on", [_percent(s.depth_disagreement) for s in scores]),
        ("points miss their pictures by", [_pixels(s.reprojection_error) for s in scores]),
        ("the same after a long time (loops)", [_pixels(s.loop_residual) for s in scores]),
        ("pictures that see a point", [_number(s.track_length) for s in scores]),
    ):
        if any(value != "-" for value in values):
            table.add_row(label, *values)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2g} %"


def _pixels(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f} px" if value >= 10 else f"{value:.2g} px"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
