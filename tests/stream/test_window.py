"""Windows of frames: aligned, cut where they must be, and read ahead no further than they need."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from mem3r_plugin.errors import SourceError
from mem3r_plugin.geometry import ImageTransform
from mem3r_plugin.stream import window
from mem3r_plugin.stream.estimate import Frame
from mem3r_plugin.stream.passage import NetworkPassage
from mem3r_plugin.stream.preprocess import Preprocessor
from mem3r_plugin.stream.source import Selection, SkippedFrame, Source
from mem3r_plugin.stream.window import LARGEST_WINDOW, Readier, window_size, windows
from tests.stream.small_model import pictures
from tests.stream.windows_seen import note_windows

READY = Readier(Preprocessor(64))
IMAGES = list(pictures(40))


def frame(index: int) -> Frame:
    return Frame(index, f"{index}.png", float(index), IMAGES[index], position=index)


def skipped(position: int) -> SkippedFrame:
    return SkippedFrame(position, f"{position}.png", "is black")


def shape(items) -> list[object]:
    """Windows as lists of frame numbers, skipped frames as their names."""
    return [
        item.name if isinstance(item, SkippedFrame) else [ready.frame.index for ready in item]
        for item in items
    ]


def of(size: int):
    return lambda suits: size


class FrameSource(Source):
    """Frames of a list, after which it fails if told to; knows how far it was read."""

    kind = "images"

    def __init__(self, items, error: Exception | None = None) -> None:
        super().__init__(Selection())
        self.items = items
        self.error = error
        self.read = 0

    def describe(self):
        return {"kind": self.kind}

    def _candidates(self) -> Iterator[Frame | SkippedFrame]:
        for item in self.items:
            self.read += 1
            yield item
        if self.error:
            raise self.error


class LiveSource(FrameSource):
    kind = "camera"
    restartable = False


@pytest.fixture
def passed(monkeypatch) -> list[int]:
    """How many frames passed through the network together, time after time."""
    return note_windows(monkeypatch, NetworkPassage, "take")


# -- windows by themselves -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "frames"),
    [((48, 64), LARGEST_WINDOW), ((384, 512), 2), ((288, 512), 2), ((512, 1024), 1), ((160, 160), 15)],
)  # fmt: skip
def test_a_window_has_about_as_many_tokens_as_suit_the_network(size, frames):
    assert window_size(size) == frames


def test_frames_come_in_order_as_the_network_sees_them():
    (only,) = windows((frame(i) for i in range(5)), READY, of(16))
    assert not isinstance(only, SkippedFrame)
    for index, ready in enumerate(only):
        assert ready.frame.index == index
        np.testing.assert_array_equal(ready.picture, IMAGES[index])
        assert ready.transform == ImageTransform.identity((64, 48))
        assert ready.keep is None


def test_windows_are_of_the_size_asked_for():
    assert shape(windows(map(frame, range(7)), READY, of(3))) == [[0, 1, 2], [3, 4, 5], [6]]


def test_the_room_is_asked_for_when_a_window_begins():
    asked = []
    rooms = iter([2, 1, 3, 3])

    def room(suits: int) -> int:
        asked.append(suits)
        return next(rooms)

    assert shape(windows(map(frame, range(7)), READY, room)) == [[0, 1], [2], [3, 4, 5], [6]]
    assert asked == [LARGEST_WINDOW] * 4


def test_windows_are_cut_at_skipped_frames():
    items: list[Frame | SkippedFrame] = [
        skipped(0),
        frame(1),
        frame(2),
        skipped(3),
        skipped(4),
        frame(5),
        skipped(6),
    ]
    assert shape(windows(items, READY, of(4))) == [
        "0.png", [1, 2], "3.png", "4.png", [5], "6.png",
    ]  # fmt: skip


def test_no_frames_no_windows():
    assert shape(windows([], READY, of(4))) == []


def test_an_exception_comes_after_the_frames_before_it():
    def failing() -> Iterator[Frame]:
        yield from map(frame, range(5))
        raise OSError("the disk is gone")

    items = windows(failing(), READY, of(3))
    assert shape([next(items), next(items)]) == [[0, 1, 2], [3, 4]]
    with pytest.raises(OSError, match="the disk is gone"):
        next(items)


def test_a_picture_that_cannot_be_made_ready_is_an_exception_too():
    wide = np.zeros((10, 2000, 3), np.uint8)
    items = windows([frame(0), replace(frame(1), image=wide)], READY, of(3))
    assert shape([next(items)]) == [[0]]
    with pytest.raises(SourceError):
        next(items)


def test_frames_are_read_ahead_but_not_far():
    source = FrameSource([frame(index % 40) for index in range(100)])
    items = windows(source.frames(), READY, of(4))
    next(items)
    most = 4 + LARGEST_WINDOW
    deadline = time.monotonic() + 10
    while source.read < most and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(0.05)
    assert source.read == most
    items.close()


def test_stopping_early_closes_the_source_and_ends_the_thread():
    closed = threading.Event()

    def endless() -> Iterator[Frame]:
        try:
            while True:
                yield frame(0)
        finally:
            closed.set()

    before = threading.active_count()
    items = windows(endless(), READY, of(4))
    next(items)
    items.close()
    assert closed.is_set()
    assert threading.active_count() == before


# -- windows of the front end --------------------------------------------------------------------


def test_windows_of_a_stream_are_aligned(small_model, monkeypatch, passed):
    monkeypatch.setattr(window, "LARGEST_WINDOW", 4)
    front_end = small_model.front_end()
    source = FrameSource([*map(frame, range(6)), skipped(6), *map(frame, range(6, 14))])
    names: list[str] = []
    stream = front_end.stream(source, on_skip=lambda item: names.append(item.name))
    estimates = [next(stream) for _ in range(3)]
    saved = front_end.save_state()
    estimates += list(stream)
    assert [estimate.frame.index for estimate in estimates] == list(range(14))
    assert names == ["6.png"]
    assert passed == [4, 2, 2, 4, 2]  # cut at the skipped frame, aligned again right after it
    # Continued from the middle of a window, too.
    passed.clear()
    again = small_model.front_end()
    again.load_state(saved)
    assert len(list(again.stream(source, start_index=3, on_skip=lambda item: None))) == 11
    assert passed == [1, 2, 2, 4, 2]


def test_windows_end_where_the_state_is_reset(small_model, monkeypatch, passed):
    monkeypatch.setattr(window, "LARGEST_WINDOW", 4)
    assert len(list(small_model.front_end(reset_interval=3).stream(IMAGES[:10]))) == 10
    assert passed == [3, 1, 2, 2, 1, 1]


def test_live_frames_pass_one_by_one(small_model, passed):
    estimates = list(small_model.front_end().stream(LiveSource(list(map(frame, range(5))))))
    assert len(estimates) == 5
    assert passed == [1] * 5


def test_frames_before_a_failure_of_the_source_are_told(small_model):
    source = FrameSource(list(map(frame, range(5))), error=SourceError("the camera is gone"))
    seen = []
    with pytest.raises(SourceError, match="the camera is gone"):
        for estimate in small_model.front_end().stream(source):
            seen.append(estimate.frame.index)  # noqa: PERF401 - what came before the error is to be seen
    assert seen == list(range(5))


def test_settled_where_a_window_ends(small_model, monkeypatch):
    monkeypatch.setattr(window, "LARGEST_WINDOW", 4)
    front_end = small_model.front_end()
    assert front_end.settled
    settled = [front_end.settled for _ in front_end.stream(IMAGES[:10])]
    assert settled == [index in (3, 7, 9) for index in range(10)]


def test_going_on_from_a_settled_frame_gives_the_same_bytes(small_model, monkeypatch):
    monkeypatch.setattr(window, "LARGEST_WINDOW", 4)
    front_end, saved, estimates = small_model.front_end(update="ttsa3r"), {}, []
    for estimate in front_end.stream(IMAGES[:10]):
        estimates.append(estimate)
        if front_end.settled:
            saved[len(estimates)] = front_end.save_state()
    assert list(saved) == [4, 8, 10]
    for done in (4, 8):
        again = small_model.front_end(update="ttsa3r")
        again.load_state(saved[done])
        rest = list(again.stream(IMAGES[:10], start_index=done))
        for one, other in zip(rest, estimates[done:], strict=True):
            assert one.frame.index == other.frame.index
            for name in ("camera_to_world", "depth", "confidence", "feature"):
                assert getattr(one, name).tobytes() == getattr(other, name).tobytes()
            assert one.intrinsics == other.intrinsics
        for name, tensor in again.save_state().items():
            assert tensor.equal(saved[10][name]), name


def test_a_camera_picture_alone_is_near_one_in_a_window(small_model):
    """What a window saves changes no more than rounding."""
    one_by_one = small_model.front_end()
    for index, estimate in enumerate(small_model.front_end().stream(IMAGES[:6])):
        alone = one_by_one.step(IMAGES[index])
        np.testing.assert_allclose(alone.depth, estimate.depth, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(alone.camera_to_world, estimate.camera_to_world, atol=1e-4)
