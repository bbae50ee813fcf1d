"""Two computations on half of the processor each: the same numbers as one after the other."""

from __future__ import annotations

import multiprocessing
import threading

import pytest
import torch
from torch import Tensor

from mem3r_plugin.model import decoder
from mem3r_plugin.model.side_by_side import side_by_side
from mem3r_plugin.model.weights import random_network
from tests.model.networks import MEM3R

CPU = torch.device("cpu")
PROCESSES = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True)
def two_threads():
    """Two threads, as side by side needs; the other tests have one."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def product(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    left, right = (torch.randn(300, 300, generator=generator) for _ in range(2))
    return (left @ right).softmax(dim=-1)


def thread_name() -> str:
    return threading.current_thread().name


@torch.inference_mode()
def threads_used(device: torch.device = CPU) -> tuple[str, str]:
    return side_by_side(thread_name, thread_name, device)


def test_each_has_a_thread_of_its_own_and_half_of_the_cores():
    both = threading.Barrier(2, timeout=30)  # broken if one had to wait for the other

    def work() -> tuple[str, int]:
        both.wait()
        return thread_name(), torch.get_num_threads()

    with torch.inference_mode():
        (one, half), (other, other_half) = side_by_side(work, work, CPU)
    assert one != other
    assert one.startswith("mem3r-half")
    assert half == other_half == 1


def test_the_same_bits_as_one_after_the_other():
    with torch.inference_mode():
        for seed in range(0, 20, 2):
            one, other = side_by_side(lambda: product(seed), lambda: product(seed + 1), CPU)  # noqa: B023
            torch.set_num_threads(1)
            assert torch.equal(one, product(seed))
            assert torch.equal(other, product(seed + 1))
            torch.set_num_threads(2)


def test_the_decoders_give_the_same_bits(monkeypatch):
    """Compared with each decoder on one thread, as it is when side by side."""
    network = random_network(MEM3R)
    pictures = torch.rand(3, 3, 48, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1

    @torch.inference_mode()
    def stream() -> list[Tensor]:
        state = network.initial_state()
        for picture in pictures.split(1):
            torch.set_num_threads(1)
            tokens = network.encode(picture)
            torch.set_num_threads(2)
            _, state = network.recur(state, tokens, (3, 4))
        return [state.tokens, *state.memory.values()]

    together = stream()
    used = []

    def in_turn(first, second, device):
        used.append(device)
        torch.set_num_threads(1)
        results = first(), second()
        torch.set_num_threads(2)
        return results

    monkeypatch.setattr(decoder, "side_by_side", in_turn)
    for one, other in zip(together, stream(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
        assert one.shape == other.shape
    assert len(used) == 3 * MEM3R.decoder.depth


def test_outside_of_inference_mode_one_after_the_other():
    order: list[str] = []
    weight = torch.ones(1, requires_grad=True)

    def work(name: str) -> Tensor:
        order.append(f"{name} in {thread_name()}")
        return weight * 2

    one, other = side_by_side(lambda: work("one"), lambda: work("other"), CPU)
    here = thread_name()
    assert order == [f"one in {here}", f"other in {here}"]
    (one + other).backward()
    assert weight.grad == 4
    with torch.no_grad():
        side_by_side(lambda: work("one"), lambda: work("other"), CPU)
    assert order[2:] == order[:2]


def test_one_after_the_other_on_one_thread_or_another_device():
    here = (thread_name(), thread_name())
    assert threads_used(torch.device("meta")) == here
    torch.set_num_threads(1)
    assert threads_used() == here


@pytest.mark.parametrize("culprit", ["one", "other"])
def test_exceptions_come_through(culprit):
    def work(name: str) -> str:
        if name == culprit:
            raise ValueError(f"{name} has failed")
        return name

    with torch.inference_mode():
        with pytest.raises(ValueError, match=f"^{culprit} has failed$"):
            side_by_side(lambda: work("one"), lambda: work("other"), CPU)
        assert side_by_side(lambda: 1, lambda: 2, CPU) == (1, 2)


@pytest.mark.parametrize("lower", [False, True])
def test_inference_mode_and_autocast_are_inherited(lower):
    def work() -> tuple[bool, torch.dtype]:
        return torch.is_inference_mode_enabled(), (torch.eye(4) @ torch.eye(4)).dtype

    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=lower):
        results = side_by_side(work, work, CPU)
    assert results == ((True, torch.bfloat16 if lower else torch.float32),) * 2


def test_the_number_of_threads_is_left_as_it_was():
    for threads in (2, 4, 3, 2):
        torch.set_num_threads(threads)
        assert all(name.startswith("mem3r-half") for name in threads_used())
        assert torch.get_num_threads() == threads
        born_later: list[int] = []
        thread = threading.Thread(target=lambda: born_later.append(torch.get_num_threads()))  # noqa: B023
        thread.start()
        thread.join()
        assert born_later == [threads]


def _in_child(results) -> None:
    torch.set_num_threads(2)
    with torch.inference_mode():
        results.put(side_by_side(lambda: sum(range(10)), thread_name, CPU))


def test_it_works_after_a_fork():
    threads_used()  # the parent has its two threads, which the child does not get
    results = PROCESSES.SimpleQueue()
    child = PROCESSES.Process(target=_in_child, args=(results,))
    child.start()
    child.join(60)
    alive = child.is_alive()
    child.kill()
    assert not alive, "the child hangs"
    assert child.exitcode == 0
    total, name = results.get()
    assert total == 45
    assert name.startswith("mem3r-half")
    assert all(name.startswith("mem3r-half") for name in threads_used())
