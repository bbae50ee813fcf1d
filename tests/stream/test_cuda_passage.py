"""Windows under way on a GPU: the same answers, in an order without races, and with few waits.

Where CUDA is faked, the test's name says so; what needs a GPU is marked, and has never been run.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from mem3r_plugin.errors import SourceError
from mem3r_plugin.model import graphs, load_rule
from mem3r_plugin.model.precision import MAX_DEPTH_ERROR, MAX_POSE_ERROR, Precision, convert
from mem3r_plugin.model.weights import load_network
from mem3r_plugin.stream import front_end as front_end_module
from mem3r_plugin.stream import window
from mem3r_plugin.stream.cuda_passage import CudaPassage, passage_on_device
from mem3r_plugin.stream.passage import NetworkPassage
from mem3r_plugin.stream.preprocess import to_network_input
from mem3r_plugin.stream.source import SkippedFrame
from mem3r_plugin.stream.stages import NoClock, StageClock
from tests import fake_cuda
from tests.stream.small_model import SmallModel, pictures
from tests.stream.spoilt import infinite_state, nan_pose, showing, spoil
from tests.stream.test_window import FrameSource, LiveSource, frame, skipped
from tests.stream.windows_seen import note_windows

IMAGES = list(pictures(40))
WINDOWS = [IMAGES[start : start + 4] for start in range(0, 24, 4)]


@pytest.fixture
def cuda(monkeypatch):
    """CUDA faked; the front end believes that its network is on a GPU."""
    monkeypatch.setattr(front_end_module, "passage_on_device", CudaPassage)
    monkeypatch.setattr(window, "LARGEST_WINDOW", 4)
    return fake_cuda.install(monkeypatch)


@pytest.fixture
def begun(monkeypatch) -> list[int]:
    """How many frames began together, time after time."""
    return note_windows(monkeypatch, CudaPassage, "begin")


def network_of(small_model: SmallModel):
    return load_network(small_model.preset, small_model.weights)


def require_same(passage, other, *, exact: bool = True) -> None:
    assert passage.answer is not None
    assert other.answer is not None
    near = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
    same = np.testing.assert_array_equal if exact else near
    for name in ("pose", "points", "confidence"):
        same(getattr(passage.answer, name), getattr(other.answer, name))
    near(passage.feature, other.feature)


def require_same_estimates(one, other) -> None:
    assert [e.frame.index for e in one] == [e.frame.index for e in other]
    for first, second in zip(one, other, strict=True):
        for name in ("camera_to_world", "depth", "confidence"):
            np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
        np.testing.assert_allclose(first.feature, second.feature, atol=1e-6)


# -- the passage ---------------------------------------------------------------------------------


def test_a_network_on_the_cpu_passes_as_ever(small_model):
    network = network_of(small_model)
    passage = passage_on_device(network, load_rule("plain"), "float32", NoClock())
    assert type(passage) is NetworkPassage
    flight = passage.begin(passage.initial_state(), IMAGES[:2])
    assert flight.after is None
    assert len(flight.land()) == 2


@pytest.mark.parametrize("update", ["plain", "ttt3r", "ttsa3r", "memix", "filt3r"])
def test_cuda_faked_windows_begun_ahead_give_the_same_without_races(small_model, update, cuda):
    network, rule = network_of(small_model), load_rule(update)
    usual = NetworkPassage(network, rule)
    state, expected = usual.initial_state(), []
    for images in WINDOWS:
        expected += usual.take(state, images)
        state = expected[-1].state
    ahead = CudaPassage(network, rule)
    with cuda.judged():
        flight, passages = ahead.begin(ahead.initial_state(), WINDOWS[0]), []
        for images in WINDOWS[1:]:
            assert flight.after is not None
            following = ahead.begin(flight.after, images)
            passages += flight.land()
            flight = following
        passages += flight.land()
    for passage, other in zip(passages, expected, strict=True):
        require_same(passage, other)
        for name, tensor in other.state.to_tensors().items():
            assert torch.equal(passage.state.to_tensors()[name], tensor)


def test_cuda_faked_a_missing_wait_is_noticed(small_model, cuda, monkeypatch):
    ahead = CudaPassage(network_of(small_model), load_rule("plain"))
    monkeypatch.setattr(fake_cuda.FakeStream, "wait_stream", lambda self, other: None)
    with cuda.judged(), pytest.raises(AssertionError, match="may still be writing"):
        ahead.begin(ahead.initial_state(), WINDOWS[0])


def test_cuda_faked_the_host_waits_once_a_window(small_model, cuda):
    ahead = CudaPassage(network_of(small_model), load_rule("ttt3r"))
    state = ahead.initial_state()
    for images in WINDOWS[:3]:
        state = ahead.take(state, images)[-1].state
    assert len(cuda.graphs) == 3  # encoder, step, heads
    cuda.waits = 0
    for images in WINDOWS[3:]:
        flight = ahead.begin(state, images)
        assert flight.after is not None
        state = flight.after
        flight.land()
    assert cuda.waits == len(WINDOWS[3:])
    assert len(cuda.graphs) == 3


def test_cuda_faked_the_recurrence_goes_first(small_model, cuda):
    CudaPassage(network_of(small_model), load_rule("ttt3r"))
    assert [stream.priority for stream in cuda.streams] == [0, -1, 0]


def test_cuda_faked_the_clock_hears_of_every_stage_and_of_replays(small_model, cuda):
    clock = StageClock()
    ahead = CudaPassage(network_of(small_model), load_rule("ttt3r"), clock=clock)
    state = ahead.initial_state()
    for images in WINDOWS[:2]:
        state = ahead.take(state, images)[-1].state
    assert clock.seconds == dict.fromkeys(("encode", "recur", "heads", "transfer"), 0.004)
    assert clock.replays == 6  # the first frame and the first of the others were run as they are


# -- the front end -------------------------------------------------------------------------------


@pytest.mark.parametrize("reset_interval", [None, 6])
def test_cuda_faked_a_stream_is_the_same(small_model, cuda, monkeypatch, reset_interval):
    options = {"update": "ttsa3r", "reset_interval": reset_interval}
    items = [*map(frame, range(9)), skipped(9), *map(frame, range(9, 22))]
    names: list[str] = []
    told = partial(small_model.front_end(**options).stream, on_skip=lambda s: names.append(s.name))
    with cuda.judged():
        estimates = list(told(FrameSource(items)))
    assert names == ["9.png"]
    monkeypatch.setattr(front_end_module, "passage_on_device", NetworkPassage)
    usual = small_model.front_end(**options).stream(FrameSource(items), on_skip=lambda s: None)
    require_same_estimates(estimates, list(usual))


def test_cuda_faked_the_next_window_begins_before_one_is_told(small_model, cuda, begun):
    stream = small_model.front_end().stream(IMAGES[:14])
    next(stream)
    assert begun == [4, 4]
    assert len(list(stream)) == 13
    assert begun == [4, 4, 4, 2]


def test_cuda_faked_nothing_begins_before_a_reset_is_done(small_model, cuda, begun):
    stream = small_model.front_end(reset_interval=6).stream(IMAGES[:12])
    for index, _ in enumerate(stream):
        assert sum(begun) <= (6 if index < 5 else 12)
    assert begun == [4, 2, 2, 4]


def test_cuda_faked_a_live_camera_is_not_kept_waiting(small_model, cuda, begun):
    stream = small_model.front_end().stream(LiveSource([*map(frame, range(3))]))
    for index, _ in enumerate(stream):
        assert begun == [1] * (index + 1)


def test_cuda_faked_frames_under_way_are_told_before_a_failure(small_model, cuda):
    source = FrameSource([*map(frame, range(6))], error=SourceError("the disk is gone"))
    seen = []
    with pytest.raises(SourceError, match="the disk is gone"):
        for estimate in small_model.front_end().stream(source):
            seen.append(estimate.frame.index)  # noqa: PERF401 - what came before the error is to be seen
    assert seen == list(range(6))


@pytest.mark.parametrize("change", [{"output": nan_pose}, {"state": infinite_state}])
def test_cuda_faked_what_was_begun_after_a_bad_frame_is_begun_again(
    small_model, cuda, monkeypatch, change, begun
):
    monkeypatch.setattr(graphs, "MAX_GRAPHS", 0)  # a replay would not be spoilt
    spoil(monkeypatch, showing(to_network_input(IMAGES[2])), **change)
    skips: list[SkippedFrame] = []
    front_end, settled, estimates = small_model.front_end(), [], []
    for estimate in front_end.stream(IMAGES[:12], on_skip=skips.append):
        estimates.append(estimate)
        settled.append(front_end.settled)
    assert [skip.position for skip in skips] == [2]
    # Twice the second window; what follows is aligned with the eleven frames that count.
    assert begun == [4, 4, 1, 1, 4, 1, 3]
    assert not settled[2]  # the second window was gathered already
    assert settled[-1]
    monkeypatch.setattr(front_end_module, "passage_on_device", NetworkPassage)
    usual = list(small_model.front_end().stream(IMAGES[:12], on_skip=lambda s: None))
    assert [e.frame.index for e in estimates] == [e.frame.index for e in usual]
    for one, other in zip(estimates, usual, strict=True):
        np.testing.assert_allclose(one.camera_to_world, other.camera_to_world, atol=1e-5)
        np.testing.assert_allclose(one.depth, other.depth, rtol=1e-4, atol=1e-5)


def test_cuda_faked_saved_in_the_middle_it_goes_on_the_same(small_model, cuda):
    front_end = small_model.front_end()
    stream = front_end.stream(IMAGES[:12])
    told = [next(stream) for _ in range(4)]
    assert front_end.settled
    saved = front_end.save_state()
    told += stream
    again = small_model.front_end()
    again.load_state(saved)
    require_same_estimates(list(again.stream(IMAGES[:12], start_index=4)), told[4:])


# -- on a GPU; never run yet ---------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.parametrize("update", ["plain", "ttt3r", "ttsa3r", "memix", "filt3r"])
def test_graphs_give_what_eager_steps_give_in_float32(update):
    torch.backends.cudnn.allow_tf32 = False
    network = convert(load_network("mem3r-tiny", device="cuda"), "float32")
    passages = []
    for kind in (NetworkPassage, CudaPassage):
        passage = kind(network, load_rule(update))
        state, seen = passage.initial_state(), []
        for images in WINDOWS:
            seen += passage.take(state, images)
            state = seen[-1].state
        passages.append(seen)
    for eager, replayed in zip(*passages, strict=True):
        require_same(eager, replayed, exact=False)


@pytest.mark.gpu
def test_graphs_in_bfloat16_are_within_the_bars_of_float32():
    answers = []
    ways: tuple[tuple[type[NetworkPassage], Precision], ...]
    ways = ((NetworkPassage, "float32"), (CudaPassage, "bfloat16"))
    for kind, precision in ways:
        network = convert(load_network("mem3r-tiny", device="cuda"), precision)
        passage = kind(network, load_rule("ttt3r"), precision)
        state, seen = passage.initial_state(), []
        for images in WINDOWS:
            seen += passage.take(state, images)
            state = seen[-1].state
        answers.append([passed.answer for passed in seen])
    for exact, rough in zip(*answers, strict=True):
        assert exact is not None
        assert rough is not None
        length = max(1.0, float(np.linalg.norm(exact.pose[:3, 3])))
        assert np.abs(rough.pose - exact.pose).max() / length <= MAX_POSE_ERROR
        distance = np.linalg.norm(exact.points, axis=-1)
        error = np.abs(rough.points[..., 2] - exact.points[..., 2]) / distance
        assert np.median(error) <= MAX_DEPTH_ERROR


@pytest.mark.gpu
def test_memory_of_the_gpu_is_flat():
    front_end = front_end_module.FrontEnd.from_pretrained("mem3r-tiny", device="cuda")
    images = (IMAGES[index % 40] for index in range(1000))
    reserved = {}
    for index, _ in enumerate(front_end.stream(images)):
        if index + 1 in (200, 1000):
            reserved[index + 1] = torch.cuda.memory_reserved()
    assert reserved[1000] <= 1.01 * reserved[200]
    assert front_end.precision == "bfloat16"
