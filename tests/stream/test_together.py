"""Streams side by side get what each gets alone, in rounds that do not depend on the clock."""

import gc
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import psutil
import pytest
import torch

from mem3r_plugin.errors import ConfigError
from mem3r_plugin.model import ReconstructionNetwork, RecurrentState, load_rule
from mem3r_plugin.model.weights import load_network
from mem3r_plugin.stream.estimate import FrameEstimate
from mem3r_plugin.stream.front_end import FrontEnd
from mem3r_plugin.stream.passage import NetworkPassage, StreamPassage, Stretch
from mem3r_plugin.stream.preprocess import Preprocessor
from mem3r_plugin.stream.run import run
from mem3r_plugin.stream.together import run_together
from tests.stream.small_model import pictures

RULES = ["plain", "ttt3r", "ttsa3r", "memix", "filt3r"]
IMAGES = list(pictures(40))
FLAT = list(pictures(20, 64, 32))


@pytest.fixture
def passage(small_model):
    def make(update: str = "ttt3r") -> NetworkPassage:
        return NetworkPassage(
            load_network(small_model.preset, small_model.weights), load_rule(update)
        )

    return make


@pytest.fixture
def batches(monkeypatch) -> list[int]:
    """How many streams recurred as one, frame after frame."""
    sizes: list[int] = []
    recur = ReconstructionNetwork.recur

    def noted(self, state, tokens, *args, **kwargs):
        sizes.append(len(tokens))
        return recur(self, state, tokens, *args, **kwargs)

    monkeypatch.setattr(ReconstructionNetwork, "recur", noted)
    return sizes


def stream(way: StreamPassage, images, reset_interval=None) -> list[FrameEstimate]:
    front_end = FrontEnd(way, Preprocessor(64), reset_interval=reset_interval)
    return list(front_end.stream(list(images)))


def assert_equal_states(one: RecurrentState, other: RecurrentState) -> None:
    assert one.kind == other.kind and one.frames == other.frames
    for name, tensor in other.to_tensors().items():
        torch.testing.assert_close(one.to_tensors()[name], tensor, atol=1e-5, rtol=1e-5)


def assert_equal_estimates(some, others) -> None:
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        assert one.frame.index == other.frame.index
        np.testing.assert_allclose(one.camera_to_world, other.camera_to_world, atol=1e-5)
        np.testing.assert_allclose(one.depth, other.depth, atol=1e-5, rtol=1e-5)
        np.testing.assert_allclose(one.confidence, other.confidence, rtol=1e-5)
        np.testing.assert_allclose(one.feature, other.feature, atol=1e-5)
        assert one.focal == pytest.approx(other.focal, rel=1e-5)


# -- one passage of several stretches ------------------------------------------------------------


@pytest.mark.parametrize("update", RULES)
def test_stretches_pass_as_if_alone(passage, batches, update):
    """Streams of any age: at the first frame, at the second, and later."""
    way = passage(update)
    start = way.initial_state()
    second = way.take(start, IMAGES[:1])[-1].state
    later = way.take(start, IMAGES[1:6])[-1].state
    stretches = [
        Stretch(start, IMAGES[6:10]),
        Stretch(second, IMAGES[10:11]),
        Stretch(later, IMAGES[11:18]),
        Stretch(later, IMAGES[18:20]),
    ]
    alone = [way.take(stretch.state, stretch.pictures) for stretch in stretches]
    batches.clear()
    side_by_side = way.take_together(stretches)
    assert sum(batches) == 14 and max(batches) > 1
    assert batches[0] == 1  # the one that begins cannot go with the others
    for passages, expected in zip(side_by_side, alone, strict=True):
        assert len(passages) == len(expected)
        for one, other in zip(passages, expected, strict=True):
            assert_equal_states(one.state, other.state)
            np.testing.assert_allclose(one.answer.pose, other.answer.pose, atol=1e-5)
            np.testing.assert_allclose(one.answer.points, other.answer.points, atol=1e-5, rtol=1e-5)


def test_a_state_that_is_not_finite_spoils_no_other(passage):
    way = passage()
    state = way.take(way.initial_state(), IMAGES[:1])[-1].state
    broken = replace(state, tokens=state.tokens + torch.inf)
    good, bad = way.take_together([Stretch(state, IMAGES[1:3]), Stretch(broken, IMAGES[1:3])])
    assert [passed.answer is None for passed in (*good, *bad)] == [False, False, True, True]


def test_stacked_states_split_again(passage):
    way = passage("ttsa3r")
    states = [way.take(way.initial_state(), IMAGES[i : i + 2])[-1].state for i in range(3)]
    for one, other in zip(RecurrentState.stack(states).split(), states, strict=True):
        assert all(torch.equal(one.to_tensors()[k], v) for k, v in other.to_tensors().items())


# -- streams of their own -------------------------------------------------------------------------


@pytest.mark.parametrize("update", ["plain", "ttt3r"])
@pytest.mark.parametrize("reset_interval", [None, 7])
def test_streams_of_any_length_and_size_get_what_they_get_alone(
    passage, batches, update, reset_interval
):
    way = passage(update)
    sources = [IMAGES[:23], FLAT[:18], IMAGES[5:10], FLAT[3:20], IMAGES[20:40]]
    alone = [stream(way, images, reset_interval) for images in sources]
    batches.clear()
    tasks = [
        lambda seat, number=number: (number, stream(seat, sources[number], reset_interval))
        for number in range(len(sources))
    ]
    results = dict(run_together(way, tasks, at_once=3))
    assert list(results) != sorted(results)  # the short one ended first
    assert max(batches) == 2
    for number, expected in enumerate(alone):
        assert_equal_estimates(results[number], expected)


def test_a_stream_that_ends_makes_room_for_the_next(passage, batches):
    lengths = [16, 32, 16, 16]
    tasks = [lambda seat, n=n: len(stream(seat, IMAGES[:n])) for n in lengths]
    assert list(run_together(passage(), tasks, at_once=2)) == [16, 32, 16, 16]
    # First frames are of one kind, later ones of another: 0 with 1, then 2 with 1, then 3 by itself.
    assert batches == [2] * 16 + [1, 1] + [2] * 15 + [1] * 16


def test_which_frames_pass_together_does_not_depend_on_the_clock(passage):
    def task(images, pause, seat):
        estimates = []
        for estimate in FrontEnd(seat, Preprocessor(64)).stream(images):
            estimates.append(estimate)
            time.sleep(pause)
        return images[0].tobytes(), estimates

    way, sources = passage(), [IMAGES[:20], IMAGES[3:33], IMAGES[7:17], IMAGES[30:40]]
    runs = [
        dict(run_together(way, [partial(task, *each) for each in zip(sources, pauses, strict=True)], 2))
        for pauses in ([0.01, 0, 0, 0], [0, 0.01, 0, 0.01])
    ]  # fmt: skip
    for images in sources:
        for one, other in zip(*(results[images[0].tobytes()] for results in runs), strict=True):
            assert one.camera_to_world.tobytes() == other.camera_to_world.tobytes()
            assert one.depth.tobytes() == other.depth.tobytes()


def test_left_early_all_streams_end(passage):
    ended = []

    def endless(seat):
        try:
            for _ in FrontEnd(seat, Preprocessor(64)).stream(
                frame for _ in iter(int, 1) for frame in IMAGES
            ):
                pass
        except KeyboardInterrupt:
            ended.append("interrupted")
            raise

    before = threading.active_count()
    results = run_together(passage(), [endless, lambda seat: "short", endless, endless], at_once=3)
    assert next(results) == "short"
    results.close()
    assert ended == ["interrupted"] * len(ended) and 2 <= len(ended) <= 3
    assert threading.active_count() == before


def test_a_task_that_raises_ends_the_others(passage):
    def bug(seat):
        raise ZeroDivisionError

    tasks: list[Callable[[StreamPassage], object]] = [partial(stream, images=IMAGES * 10), bug]
    with pytest.raises(ZeroDivisionError):
        list(run_together(passage(), tasks, at_once=2))


def test_no_room_on_a_mocked_gpu_is_said_in_one_line(passage, monkeypatch):
    def full(self, stretches):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(NetworkPassage, "take_together", full)
    tasks = [partial(stream, images=IMAGES[:3])] * 2
    with pytest.raises(ConfigError, match="no room for 2 scans together"):
        list(run_together(passage(), tasks, at_once=2))


def test_memory_does_not_grow_with_the_number_of_frames(small_model, passage, tmp_path):
    class Meter:
        def __init__(self):
            self.resident = {}

        def open(self):
            pass

        def write(self, estimate):
            if estimate.frame.index in (99, 299):
                gc.collect()
                self.resident[estimate.frame.index] = psutil.Process().memory_info().rss

        def close(self, complete):
            pass

    def task(number, seat):
        config = small_model.config("generator", tmp_path / str(number), reset_interval=100)
        sinks = [meter] if number == 0 else []
        return len(run(config, source=pictures(300), sinks=sinks, silent=True, passage=seat))

    meter = Meter()
    tasks = [partial(task, number) for number in range(3)]
    assert list(run_together(passage(), tasks, at_once=3)) == [300] * 3
    assert meter.resident[299] <= 1.05 * meter.resident[99], meter.resident
