"""CUDA graphs: what is recorded when, and that replays give what the function gives."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from mem3r_plugin.model import ReconstructionNetwork, RecurrentState, graphs, load_rule
from mem3r_plugin.model.graphs import Graphs, Tensors
from mem3r_plugin.model.side_by_side import side_by_side
from mem3r_plugin.model.updates import available_rules
from mem3r_plugin.model.weights import random_network
from tests import fake_cuda
from tests.model.networks import CUT3R, MEM3R

CPU = torch.device("cpu")


@pytest.fixture
def cuda(monkeypatch):
    """CUDA faked."""
    return fake_cuda.install(monkeypatch)


class Counted:
    """A function that knows how often Python ran it."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, inputs: Tensors) -> Tensors:
        self.runs += 1
        return {"sum": inputs["one"] + inputs["other"], "same": inputs["one"]}


def numbers(seed: int, rows: int = 3) -> Tensors:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(rows, 4, generator=generator) for name in ("one", "other")}


def require_sum(result: Tensors, inputs: Tensors) -> None:
    assert torch.equal(result["sum"], inputs["one"] + inputs["other"])
    assert torch.equal(result["same"], inputs["one"])


def test_cuda_faked_a_call_is_recorded_when_it_comes_again(cuda):
    call, function = Graphs(CPU), Counted()
    for index in range(5):
        inputs = numbers(index)
        require_sum(call("add", function, inputs), inputs)
        assert (len(cuda.graphs), call.replays) == (min(index, 1), index)
    assert function.runs == 1 + graphs.WARM_UPS + 1


def test_cuda_faked_results_are_not_overwritten_by_later_replays(cuda):
    call, function = Graphs(CPU), Counted()
    results = [(call("add", function, numbers(seed)), numbers(seed)) for seed in range(4)]
    for result, inputs in results:
        require_sum(result, inputs)


def test_cuda_faked_calls_differ_by_name_shape_and_format(cuda):
    call, function = Graphs(CPU), Counted()
    for _ in range(2):
        call("add", function, numbers(0))
        call("again", function, numbers(0))
        call("add", function, numbers(0, rows=2))
        call("add", function, {name: tensor.double() for name, tensor in numbers(0).items()})
    assert len(cuda.graphs) == call.replays == 4


def test_cuda_faked_only_so_many_are_recorded(cuda, monkeypatch):
    monkeypatch.setattr(graphs, "MAX_GRAPHS", 2)
    call, function = Graphs(CPU), Counted()
    for _ in range(3):
        for rows in (1, 2, 3):
            require_sum(call("add", function, numbers(0, rows)), numbers(0, rows))
    assert len(cuda.graphs) == 2
    assert call.replays == 2 * 2


def test_cuda_faked_what_asks_for_a_value_is_run_as_it_is(cuda, caplog):
    def asking(inputs: Tensors) -> Tensors:
        return {"sum": inputs["one"] * inputs["other"].sum().item()}

    call = Graphs(CPU)
    for seed in range(4):
        inputs = numbers(seed)
        result = call("ask", asking, inputs)
        assert torch.equal(result["sum"], inputs["one"] * inputs["other"].sum().item())
    assert call.replays == 0
    assert cuda.current is cuda.default
    (record,) = caplog.records
    assert record.getMessage() == (
        "no CUDA graph, so slower than it could be: operation not permitted when stream is capturing"
    )


def test_cuda_faked_decoders_are_branches_of_a_graph(cuda):
    where = []

    def work(name: str) -> str:
        where.append(cuda.current)
        return name

    device, here = torch.device("cuda"), cuda.current
    assert side_by_side(partial(work, "one"), partial(work, "other"), device) == ("one", "other")
    assert where == [here, here]
    cuda.capturing = True
    assert side_by_side(partial(work, "one"), partial(work, "other"), device) == ("one", "other")
    beside = where.pop()
    assert where == [here] * 3
    assert beside is not here
    assert beside.clock.keys() >= here.clock.keys()  # it waited before
    assert here.clock.keys() >= beside.clock.keys()  # and was waited for after


# -- what a graph can hold -----------------------------------------------------------------------


class OnOneDevice(TorchDispatchMode):
    """Refuses whatever would let a GPU and its host wait for each other, or copy between them."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        tensors = [t for t in tree_iter((args, kwargs, result)) if isinstance(t, Tensor)]
        assert all(t.device.type == "meta" for t in tensors), f"{func} leaves the device"
        return result


@pytest.mark.parametrize("config", [MEM3R, CUT3R], ids=lambda config: config.name)
@pytest.mark.parametrize("update", available_rules())
def test_a_step_never_leaves_the_device(config, update):
    """On a device without numbers, where asking for one is an error."""
    with torch.device("meta"):
        network = ReconstructionNetwork(config).eval()
        tokens = torch.empty(1, 12, config.encoder.width)
    rule = load_rule(update)
    with torch.inference_mode():
        state = network.initial_state()
        for index in range(4):
            if index < 2:  # tables are made
                _, state = network.recur(state, tokens, (3, 4), rule=rule)
            else:
                with OnOneDevice():
                    _, state = network.recur(state, tokens, (3, 4), rule=rule)


@pytest.mark.parametrize("config", [MEM3R, CUT3R], ids=lambda config: config.name)
@pytest.mark.parametrize("update", available_rules())
def test_cuda_faked_replayed_steps_are_the_steps(config, update, cuda):
    network, rule, call = random_network(config), load_rule(update), Graphs(CPU)
    generator = torch.Generator().manual_seed(0)

    def step(state: RecurrentState, inputs: Tensors) -> Tensors:
        before = RecurrentState.holding(inputs, state.frames)
        _, after = network.recur(before, inputs["frame"], (3, 4), rule=rule)
        return after.remembered()

    with torch.inference_mode():
        exact = replayed = network.initial_state()
        for index in range(6):
            tokens = torch.randn(1, 12, config.encoder.width, generator=generator)
            _, exact = network.recur(exact, tokens, (3, 4), rule=rule)
            inputs = {"frame": tokens, **replayed.remembered()}
            run = partial(step, replayed)
            outputs = call("recur", run, inputs) if index else run(inputs)
            replayed = RecurrentState.holding(outputs, index + 1)
            for name, tensor in exact.remembered().items():
                torch.testing.assert_close(outputs[name], tensor, rtol=1e-6, atol=1e-7)
    assert call.replays >= 3
