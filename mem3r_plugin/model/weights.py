"""Finding weights by name, path or Hugging Face repository, and making a network of them."""

from __future__ import annotations

import hashlib
import re
from importlib import resources
from pathlib import Path

import torch

from mem3r_plugin.configuration import load_preset
from mem3r_plugin.errors import WeightsError
from mem3r_plugin.model.checkpoint import (
    as_trained,
    build_network,
    read_checkpoint,
    recorded_config,
)
from mem3r_plugin.model.config import NetworkConfig
from mem3r_plugin.model.network import ReconstructionNetwork, initialise

RANDOM = "random"
"""In place of weights: a seeded random network, for benchmarks and tests."""

HUB_FILE = "model.safetensors"
"""The file looked for in a Hugging Face repository."""


def bundled_weights() -> dict[str, Path]:
    """Weights that come with this package, by name."""
    folder = Path(str(resources.files("mem3r_plugin"))) / "weights"
    return {file.stem: file for file in sorted(folder.glob("*.safetensors"))}


def find_weights(name: str) -> Path:
    """The file behind a bundled name, a path, or a Hugging Face repository id (`owner/repository`).

    Raises:
        WeightsError: there is no such thing, or it cannot be fetched.
    """
    bundled = bundled_weights()
    if name in bundled:
        return bundled[name]
    if Path(name).is_file():
        return Path(name)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not Path(name).suffix:
        return _download(name)
    raise WeightsError(
        f"no weights '{name}': neither a file, nor bundled ({', '.join(bundled) or 'none are'}), nor a "
        "Hugging Face repository id; pass --weights with a CUT3R checkpoint or one of `mem3r train`"
    )


def load_network(
    model: str = "mem3r-tiny", weights: str | None = None, *, device: str | torch.device = "cpu"
) -> ReconstructionNetwork:
    """A network ready for inference, in float32.

    Args:
        model: a preset of `configs/model`, or a YAML file; it must agree with what the weights say.
        weights: what `find_weights` takes, or `random`; by default the bundled weights named like the model.
        device: where the network goes.

    Raises:
        WeightsError: the weights cannot be found or read, or do not fit the model.
        ConfigError: there is no such model.
    """
    config = load_preset("model", model, NetworkConfig())
    if weights == RANDOM:
        return random_network(config).to(device)
    checkpoint = read_checkpoint(find_weights(weights or config.name))
    return build_network(checkpoint, as_trained(config, checkpoint.config)).to(device)


def network_config(model: str = "mem3r-tiny", weights: str | None = None) -> NetworkConfig:
    """What `load_network` builds: the preset, with the picture size its weights were trained on if they tell.

    Raises:
        WeightsError: the weights cannot be found or read.
        ConfigError: there is no such model.
    """
    config = load_preset("model", model, NetworkConfig())
    if weights == RANDOM:
        return config
    return as_trained(config, recorded_config(find_weights(weights or config.name)))


def random_network(config: NetworkConfig, seed: int = 0) -> ReconstructionNetwork:
    """A network with initial weights that depend on nothing but the configuration and the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ReconstructionNetwork(config)
        initialise(network)
    return network.eval()


def weights_digest(weights: str) -> str:
    """SHA-256 of the file behind `weights`, or `random`."""
    if weights == RANDOM:
        return RANDOM
    with find_weights(weights).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(repository: str) -> Path:
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise WeightsError(
            f"'{repository}' looks like a Hugging Face repository; to fetch it, "
            'pip install "mem3r-plugin[hub]"'
        ) from error
    try:
        return Path(hf_hub_download(repository, HUB_FILE))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise WeightsError(f"cannot fetch {HUB_FILE} of '{repository}': {reason}") from error
