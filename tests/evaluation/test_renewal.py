"""Streams without the front end, reset like it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mem3r_plugin.evaluation.renewal import RenewedStream
from mem3r_plugin.model.config import PATCH
from mem3r_plugin.model.updates import load_rule
from mem3r_plugin.model.weights import random_network
from mem3r_plugin.stream.front_end import FrontEnd
from mem3r_plugin.stream.passage import NetworkPassage
from mem3r_plugin.stream.preprocess import Preprocessor, to_network_input
from tests.model.networks import MEM3R

WIDTH, HEIGHT = 64, 48


@pytest.mark.parametrize("interval", [None, 1, 3])
def test_poses_are_those_of_the_front_end(interval: int | None) -> None:
    network = random_network(replace(MEM3R, picture_size=WIDTH, reset_interval=interval))
    images = np.random.default_rng(0).integers(0, 256, (8, HEIGHT, WIDTH, 3), dtype=np.uint8)
    rule, preprocessor = load_rule("ttt3r"), Preprocessor(WIDTH)
    front_end = FrontEnd(NetworkPassage(network, rule), preprocessor, reset_interval=interval)
    wanted = [estimate.camera_to_world for estimate in front_end.stream(list(images))]
    inputs = to_network_input(np.stack([preprocessor(image)[0] for image in images]))
    stream = RenewedStream(network, rule)
    found = []
    with torch.inference_mode():
        for tokens in network.encode(inputs):
            _, placed = stream.step(tokens[None], (HEIGHT // PATCH, WIDTH // PATCH))
            found.append(placed[0])
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_streams_side_by_side_are_those_alone() -> None:
    network = random_network(replace(MEM3R, reset_interval=2))
    torch.manual_seed(0)
    tokens = torch.randn(5, 3, 12, MEM3R.encoder.width)
    rule = load_rule("plain")
    together = RenewedStream(network, rule, 3)
    alone = [RenewedStream(network, rule) for _ in range(3)]
    for now in tokens:
        _, placed = together.step(now, (3, 4))
        single = [stream.step(now[i : i + 1], (3, 4))[1][0] for i, stream in enumerate(alone)]
        np.testing.assert_allclose(placed, single, atol=1e-4)  # batches are rounded differently
