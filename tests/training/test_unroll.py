"""The network over whole sequences."""

from __future__ import annotations

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from mem3r_plugin.model import NetworkConfig
from mem3r_plugin.model.weights import random_network
from mem3r_plugin.training.batch import SequenceBatch, WorldBatches
from mem3r_plugin.training.config import DataConfig, LossWeights, Stage, TrainingConfig
from mem3r_plugin.training.unroll import UnrolledNetwork, chosen_views
from tests.model.networks import CUT3R, MEM3R

VIEWS = 10


@pytest.fixture(scope="module")
def batch() -> SequenceBatch:
    config = TrainingConfig(
        stages=(Stage(steps=1, views=VIEWS, sequences=2),), data=DataConfig(size=(48, 32))
    )
    return WorldBatches(config).batch_at(0)


def kept_for_backward(unrolled: UnrolledNetwork, batch: SequenceBatch) -> int:
    """Bytes that a forward pass keeps beside parameters and the inputs of recomputed parts."""
    sizes: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        terms = unrolled(batch)
    parameters = {p.untyped_storage().data_ptr() for p in unrolled.parameters()}
    del terms
    return sum(size for pointer, size in sizes.items() if pointer not in parameters)


@pytest.mark.parametrize("config", [MEM3R, CUT3R], ids=lambda config: config.name)
@pytest.mark.parametrize("asked", [None, 3])
def test_recomputed_activations_give_the_same_gradients(
    config: NetworkConfig, asked: int | None, batch: SequenceBatch
) -> None:
    network = random_network(config).train()
    gradients = []
    for recompute in (False, True):
        unrolled = UnrolledNetwork(network, LossWeights(rgb=0.5), 4, recompute)
        terms = unrolled(batch, asked)
        network.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        gradients.append(
            {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
        )
    kept, recomputed = gradients
    assert kept.keys() == recomputed.keys()
    for name, gradient in kept.items():
        torch.testing.assert_close(recomputed[name], gradient, rtol=1e-4, atol=1e-6)


def test_recomputing_keeps_little_beside_its_inputs(batch: SequenceBatch) -> None:
    network = random_network(MEM3R).train()
    kept = kept_for_backward(UnrolledNetwork(network, LossWeights()), batch)
    recomputed = kept_for_backward(
        UnrolledNetwork(network, LossWeights(), checkpoint_activations=True), batch
    )
    assert recomputed < 0.25 * kept


def test_nothing_is_recomputed_in_evaluation(batch: SequenceBatch) -> None:
    unrolled = UnrolledNetwork(random_network(MEM3R), LossWeights(), checkpoint_activations=True)
    unrolled.eval()
    assert not unrolled.recomputes


@pytest.mark.parametrize(
    ("asked", "wanted", "chosen"),
    [
        (None, None, [0, 1, 2, 3, 4]),
        (None, 2, [0, 4]),
        (None, 3, [0, 2, 4]),
        (1, 2, [0, 1, 4]),
        (None, 1, [0]),
        (None, 0, []),
    ],
)
def test_dense_views_are_spread_evenly(
    asked: int | None, wanted: int | None, chosen: list[int]
) -> None:
    assert chosen_views(5, asked, wanted) == chosen


def test_each_help_adds_its_own_term(batch: SequenceBatch) -> None:
    network = random_network(MEM3R)
    helps = LossWeights(points_world=0, depth=1, edges=1, patch_flow=1, token_flow=1)
    without_dense = {"pose", "motion", "patch_flow", "token_flow"}
    assert UnrolledNetwork(network, helps)(batch, dense_views=0).keys() == without_dense
    with_dense = without_dense | {"points_self", "depth", "edges"}
    assert UnrolledNetwork(network, helps)(batch, dense_views=2).keys() == with_dense
    assert UnrolledNetwork(network, LossWeights())(batch).keys() == {
        "pose",
        "motion",
        "points_self",
        "points_world",
    }


def test_the_encoder_can_be_taught_alone(batch: SequenceBatch) -> None:
    unrolled = UnrolledNetwork(random_network(MEM3R), LossWeights(token_flow=1))
    terms = unrolled(batch, encoder_only=True)
    assert terms.keys() == {"token_flow"}
    terms["token_flow"].backward()
    taught = {name for name, p in unrolled.network.named_parameters() if p.grad is not None}
    assert taught
    assert all(name.startswith("image_encoder") for name in taught)
