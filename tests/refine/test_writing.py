from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mem3r_plugin.refine.estimates import Estimates, own_estimates
from mem3r_plugin.refine.writing import ResultWriter
from mem3r_plugin.scan import Scan, ScanSink
from mem3r_plugin.scan.format import MetricScale
from mem3r_plugin.stream.estimate import FrameEstimate
from tests.room_scan import make_room_scan

FRAMES = 6


class StoppedError(Exception):
    """As if the process had been killed."""


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Scan:
    return make_room_scan(tmp_path_factory.mktemp("room"), frames=FRAMES, edit=far_away)


def far_away(estimate: FrameEstimate) -> FrameEstimate:
    """Later frames see farther than a scan can hold, which its header counts."""
    return replace(estimate, depth=estimate.depth * 5**estimate.frame.index)


def digest(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): sha256(file.read_bytes()).hexdigest() for file in files}


def begin(room: Scan, folder: Path) -> ResultWriter:
    """A writer as a fresh process makes it."""
    (folder / "notes").mkdir(parents=True, exist_ok=True)
    if not (folder / "scan/scan.json").exists():
        sink = ScanSink(folder / "scan", room.header)
        sink.open()
        sink.close(complete=False)
    return ResultWriter(folder / "scan", room.header, folder / "notes")


def numbered(scan: Scan, start: int, stop_before: int | None = None) -> Estimates:
    """The scan's own frames, each with its number as residual; stops as if killed."""
    for index, (estimate, _) in enumerate(islice(own_estimates(scan), start, None), start=start):
        if index == stop_before:
            raise StoppedError
        # The scan's own depth was cut off already; this is cut off again.
        yield replace(estimate, depth=1.5 * estimate.depth), index / 10
    if stop_before == FRAMES:
        raise StoppedError


@given(stops=st.lists(st.integers(0, FRAMES), max_size=3))
@settings(max_examples=10)
def test_stopped_anywhere_it_comes_to_the_same_bytes(
    room: Scan, tmp_path_factory: pytest.TempPathFactory, stops: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("writing")
    for stop in stops:
        started: list[int] = []

        def until(start: int, stop: int = stop, started: list[int] = started) -> Estimates:
            started.append(start)
            return numbered(room, start, max(start, stop))

        with suppress(StoppedError):
            begin(room, folder / "stopped").write("refined", FRAMES, until)
    for name in ("stopped", "whole"):
        writer = begin(room, folder / name)
        scan = writer.write("refined", FRAMES, lambda start: numbered(room, start))
        assert len(scan) == FRAMES and not scan.complete
        assert writer.residuals() == [0, 0.1, 0.2, 0.3, 0.4, 0.5]
        writer.complete(None)
    assert Scan.open(folder / "whole" / "scan").header.clipped_depths > 0
    assert digest(folder / "stopped" / "scan") == digest(folder / "whole" / "scan")
    shutil.rmtree(folder)


def test_frames_that_are_there_are_not_asked_for_again(room: Scan, tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        begin(room, tmp_path).write("refined", FRAMES, lambda start: numbered(room, start, 4))
    starts: list[int] = []

    def noted(start: int) -> Estimates:
        starts.append(start)
        return numbered(room, start)

    begin(room, tmp_path).write("refined", FRAMES, noted)
    begin(room, tmp_path).write("refined", FRAMES, noted)
    assert starts == [4]


def test_another_result_takes_the_place_of_the_first(room: Scan, tmp_path: Path) -> None:
    begin(room, tmp_path).write("refined", FRAMES, lambda start: numbered(room, start))
    writer = begin(room, tmp_path)
    assert writer.result == "refined"
    writer.write("own", FRAMES, lambda start: islice(own_estimates(room), start, None))
    assert writer.result == begin(room, tmp_path).result == "own"
    assert writer.residuals() == [None] * FRAMES


def test_a_complete_scan_has_its_scale(room: Scan, tmp_path: Path) -> None:
    writer = begin(room, tmp_path)
    writer.write("own", FRAMES, lambda start: numbered(room, start))
    writer.complete(MetricScale(2.0, 0.1, "a rope"))
    done = Scan.open(tmp_path / "scan")
    assert done.complete and done.scale == MetricScale(2.0, 0.1, "a rope")
