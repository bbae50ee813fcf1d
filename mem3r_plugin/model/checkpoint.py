"""Reading and writing weights, without ever executing a pickle."""

from __future__ import annotations

import argparse
import dataclasses
import json
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from mem3r_plugin.configuration import from_dict
from mem3r_plugin.errors import OutputError, WeightsError
from mem3r_plugin.files import atomic_path
from mem3r_plugin.model.config import NetworkConfig
from mem3r_plugin.model.cut3r_layout import from_cut3r_layout, is_cut3r_layout
from mem3r_plugin.model.network import ReconstructionNetwork

FORMAT = "mem3r-plugin weights 1"
"""Value of the `format` entry in our safetensors metadata."""


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """Tensors under our names and, where the file says so, the network they belong to."""

    path: Path
    tensors: dict[str, Tensor]
    config: NetworkConfig | None
    """None for files that do not describe their network (CUT3R's)."""


def read_checkpoint(path: Path) -> Checkpoint:
    """Read our safetensors, or a CUT3R checkpoint as safetensors or as a restricted pickle.

    A pickle is read by torch's `weights_only` unpickler, which knows tensors and plain containers; the only
    class allowed besides is `argparse.Namespace`, in which CUT3R keeps its training arguments.

    Raises:
        WeightsError: the file is missing, damaged, or holds anything that would have to be executed.
    """
    config = recorded_config(path)
    tensors = _read_safetensors(path) if _is_safetensors(path) else _read_pickle(path)
    if is_cut3r_layout(tensors):
        tensors = from_cut3r_layout(tensors)
    return Checkpoint(path, tensors, config)


def recorded_config(path: Path) -> NetworkConfig | None:
    """The network that a file says its weights belong to, without reading them; None if it does not say.

    Raises:
        WeightsError: the file is missing or damaged.
    """
    if not path.is_file():
        raise WeightsError(f"weights file {path} does not exist")
    if not _is_safetensors(path):
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise WeightsError(f"{path} is damaged: {error}") from error
    if metadata.get("format") != FORMAT:
        return None
    return from_dict(NetworkConfig, json.loads(metadata["config"]), where=str(path))


def as_trained(config: NetworkConfig, recorded: NetworkConfig | None) -> NetworkConfig:
    """A network's settings, with the picture size its weights were trained on where they record one."""
    if recorded is None:
        return config
    return dataclasses.replace(config, picture_size=recorded.picture_size)


def build_network(checkpoint: Checkpoint, config: NetworkConfig) -> ReconstructionNetwork:
    """The network of `config` with a checkpoint's weights, in float32, every tensor accounted for.

    Raises:
        WeightsError: tensors are missing, left over, of another shape, or not finite, or the file says
            that it belongs to another network.
    """
    with torch.device("meta"):
        network = ReconstructionNetwork(config)
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    check_shapes(checkpoint, expected, f"a '{config.name}' network")
    _check_config(checkpoint, config)
    tensors = {name: tensor.float() for name, tensor in checkpoint.tensors.items()}
    broken = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise WeightsError(
            f"{checkpoint.path}: {broken[0]} is not finite ({len(broken)} such tensors)"
        )
    network.load_state_dict(tensors, assign=True)
    return network.eval()


def check_shapes(
    checkpoint: Checkpoint, expected: Mapping[str, tuple[int, ...]], what: str
) -> None:
    """Compare names and shapes with those of `what`.

    Raises:
        WeightsError: names the first difference of each kind and counts the others.
    """
    found = {name: tuple(tensor.shape) for name, tensor in checkpoint.tensors.items()}
    reshaped = [
        f"{name} is {list(found[name])}, not {list(expected[name])}"
        for name in expected
        if name in found and found[name] != expected[name]
    ]
    problems = [
        f"{len(differences)} {kind} (first: {differences[0]})"
        for kind, differences in (
            ("missing", sorted(expected.keys() - found.keys())),
            ("unknown", sorted(found.keys() - expected.keys())),
            ("of another shape", reshaped),
        )
        if differences
    ]
    if problems:
        raise WeightsError(
            f"{checkpoint.path} does not fit {what}: tensors {', '.join(problems)}; "
            "choose the matching --model, or convert the file with `mem3r convert`"
        )


def _check_config(checkpoint: Checkpoint, config: NetworkConfig) -> None:
    """Compare what shapes do not tell, such as the number of heads, with what the file says."""
    if checkpoint.config is None:
        return
    found, wanted = _settings(checkpoint.config), _settings(config)
    differences = [
        f"{name} is {found[name]} there and {wanted[name]} here"
        for name in sorted(wanted)
        if found[name] != wanted[name]
    ]
    if differences:
        raise WeightsError(
            f"{checkpoint.path} belongs to another network than '{config.name}': "
            f"{'; '.join(differences)}; choose the matching --model"
        )


def _settings(config: NetworkConfig) -> dict[str, Any]:
    """What a network computes, as `part.setting`; not what it is called and trained on."""
    parts = dataclasses.asdict(config)
    return {
        f"{part}.{name}": value
        for part, settings in parts.items()
        if isinstance(settings, dict)
        for name, value in settings.items()
    }


def write_checkpoint(
    network: ReconstructionNetwork, path: Path, dtype: torch.dtype = torch.float32
) -> None:
    """Write a network's weights and configuration as safetensors, all at once or not at all."""
    tensors = {
        name: t.detach().to("cpu", dtype).contiguous() for name, t in network.state_dict().items()
    }
    config = json.dumps(dataclasses.asdict(network.config), sort_keys=True)
    save_tensors(path, tensors, {"format": FORMAT, "config": config})


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write safetensors, all at once or not at all.

    Raises:
        OutputError: the file cannot be written, for example because the disk is full.
    """
    with atomic_path(path) as temporary:
        try:
            save_file(tensors, temporary, metadata=metadata)
        except SafetensorError as error:
            raise OutputError(f"cannot write {path}: {error}") from error


def _is_safetensors(path: Path) -> bool:
    """Safetensors begin with the length of a JSON header, so byte 8 is its opening brace."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise WeightsError(f"{path} is damaged: {error}") from error


def _read_pickle(path: Path) -> dict[str, Tensor]:
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} is refused: it is no plain checkpoint, reading it would execute {_offender(error)}"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise WeightsError(f"{path} is no checkpoint, or damaged: {_first_line(error)}") from error
    if isinstance(content, Mapping) and isinstance(content.get("model"), Mapping):
        content = content["model"]
    if not isinstance(content, Mapping) or not all(isinstance(t, Tensor) for t in content.values()):
        raise WeightsError(
            f"{path} holds no state dictionary (neither at the top nor under 'model')"
        )
    return dict(content)


def _offender(error: pickle.UnpicklingError) -> str:
    """What a pickle wanted to call; torch's own message advises to allow it, which is not ours to say."""
    name = re.search(r"GLOBAL ([\w.]+)", str(error))
    return name[1] if name else "code it brings along"


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
