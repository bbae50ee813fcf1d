"""A real network, small enough to run hundreds of frames a second."""

import pytest
import torch

from mem3r_plugin.configuration import load_preset
from mem3r_plugin.model import NetworkConfig
from mem3r_plugin.model.checkpoint import write_checkpoint
from mem3r_plugin.model.weights import random_network
from tests.stream.small_model import SmallModel

PRESET = """\
name: small
encoder: {width: 64, depth: 1, heads: 4, ray_map_depth: 1}
decoder: {width: 48, depth: 4, image_heads: 3, state_heads: 3, state_tokens: 16}
memory: {heads: 3}
gate: {hidden: 16}
dpt: {features: 16, output_features: 16, levels: [16, 16, 16, 16]}
picture_size: 64
"""


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> SmallModel:
    """Preset and weights of a random network whose points lie before the camera, mostly."""
    folder = tmp_path_factory.mktemp("small_model")
    preset, weights = folder / "small.yaml", folder / "small.safetensors"
    preset.write_text(PRESET)
    network = random_network(load_preset("model", preset, NetworkConfig()))
    with torch.no_grad():
        values = network.state_dict()
        values["heads.points_self.output.2.bias"][2] += 1.0
        # An untrained fast-weight memory climbs its unbounded objective until it overflows.
        values["pose_memory.rate.bias"].fill_(-9.0)
    write_checkpoint(network, weights)
    return SmallModel(str(preset), str(weights))
