from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem3r_plugin.refine.outcome import REASONS, ScoreBook, choose_result
from mem3r_plugin.refine.score import FrameScore, ScanScore
from mem3r_plugin.refine.writing import Result


def score(pixels: float | None, disagreement: float | None) -> ScanScore:
    frame = FrameScore("000.png", disagreement, pixels, 12, 3.5)
    return ScanScore(disagreement, pixels, 3.5, None, ("frame 000.png is weak",), (frame,))


def chosen(own: ScanScore, refined: ScanScore, aligned: ScanScore) -> tuple[Result, list[Result]]:
    """What is chosen, and which results had to be scored for it."""
    asked: list[Result] = []
    scores: dict[Result, ScanScore] = {"own": own, "refined": refined, "aligned": aligned}

    def give(result: Result) -> ScanScore:
        asked.append(result)
        return scores[result]

    return choose_result(give), asked


def test_better_poses_with_better_depth_are_kept() -> None:
    assert chosen(score(9, 0.2), score(0.5, 0.01), score(0.5, 0.1)) == (
        "refined",
        ["own", "refined"],  # no need to look at the network's depth
    )


def test_worse_poses_are_refused_whatever_the_depth() -> None:
    assert chosen(score(1, 0.2), score(1.1, 0.01), score(1.1, 0.01))[0] == "own"


def test_depth_that_disagrees_more_gives_way_to_the_network_s() -> None:
    assert chosen(score(9, 0.02), score(0.5, 0.2), score(0.5, 0.05))[0] == "aligned"


def test_flat_depth_that_never_moved_agrees_perfectly_and_does_not_win() -> None:
    assert chosen(score(100, 0.0), score(0.5, 0.02), score(0.5, 0.3))[0] == "refined"


optional = st.none() | st.floats(0, 2)


@given(st.lists(st.tuples(st.floats(0, 99), optional), min_size=3, max_size=3))
def test_poses_never_become_worse(scores: list[tuple[float, float | None]]) -> None:
    own, refined, aligned = (score(*values) for values in scores)
    result, _ = chosen(own, refined, aligned)
    assert result in REASONS
    if result != "own":
        assert refined.reprojection_error <= own.reprojection_error  # type: ignore[operator]
    if result == "aligned":
        assert aligned.depth_disagreement is not None
        assert (
            refined.depth_disagreement is None
            or aligned.depth_disagreement < refined.depth_disagreement
        )


def test_a_score_is_worked_out_once_and_survives_in_its_file(tmp_path: Path) -> None:
    file = tmp_path / "scores.json"
    first = ScoreBook(file).get("own", lambda: score(3, None))
    again = ScoreBook(file).get("own", lambda: pytest.fail("it was worked out before"))
    assert again == first == score(3, None)
