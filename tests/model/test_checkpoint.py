"""Checkpoints: CUT3R's layout, ours, conversion, and files that must be refused."""

from __future__ import annotations

import argparse
import os
import pickle
import resource
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from mem3r_plugin.configuration import load_preset
from mem3r_plugin.errors import OutputError, WeightsError
from mem3r_plugin.model import NetworkConfig, ReconstructionNetwork
from mem3r_plugin.model.checkpoint import build_network, read_checkpoint, write_checkpoint
from mem3r_plugin.model.convert import convert_checkpoint
from mem3r_plugin.model.cut3r_layout import from_cut3r_layout, our_name
from mem3r_plugin.model.weights import find_weights, load_network, random_network, weights_digest
from tests.model.golden import public_names
from tests.model.networks import CUT3R, MEM3R

SIZE = (32, 48)


def public_state_dict(network: ReconstructionNetwork) -> dict[str, Tensor]:
    """A network's weights under CUT3R's names, aliases included."""
    ours = network.state_dict()
    by_name: dict[str, Tensor] = {}
    for name in public_names():
        if ".scratch.layer_rn." not in name and our_name(name) in ours:
            by_name[name] = ours[our_name(name)].clone()
    for head in ("dpt_self", "dpt_cross", "dpt_rgb"):
        for level in range(4):
            scratch = f"downstream_head.{head}.scratch"
            by_name[f"{scratch}.layer_rn.{level}.weight"] = by_name[
                f"{scratch}.layer{level + 1}_rn.weight"
            ]
    return by_name


@pytest.fixture
def cut3r() -> ReconstructionNetwork:
    return random_network(CUT3R)


@pytest.fixture
def public_file(cut3r: ReconstructionNetwork, tmp_path: Path) -> Path:
    """A checkpoint as CUT3R publishes it: a pickled dict with an argparse namespace beside the weights."""
    path = tmp_path / "cut3r_512_dpt_4_64.pth"
    arguments = argparse.Namespace(model="ARCroco3DStereo(...)", lr=1e-4, epochs=10)
    torch.save({"args": arguments, "model": public_state_dict(cut3r), "epoch": 10}, path)
    return path


def test_every_public_name_is_known() -> None:
    with torch.device("meta"):
        network = ReconstructionNetwork(load_preset("model", "cut3r", NetworkConfig()))
        public = {name: torch.empty(shape) for name, shape in public_names().items()}
    assert len(public) == 1248
    expected = {name: tuple(t.shape) for name, t in network.state_dict().items()}
    renamed = {
        our_name(name): tuple(t.shape)
        for name, t in public.items()
        if ".scratch.layer_rn." not in name
    }
    assert renamed == expected


def test_public_checkpoint_loads(cut3r: ReconstructionNetwork, public_file: Path) -> None:
    network = build_network(read_checkpoint(public_file), CUT3R)
    for name, tensor in cut3r.state_dict().items():
        assert torch.equal(network.state_dict()[name], tensor), name


def test_aliases_that_disagree_are_refused(cut3r: ReconstructionNetwork) -> None:
    tensors = public_state_dict(cut3r)
    name = "downstream_head.dpt_self.scratch.layer_rn.2.weight"
    tensors[name] = tensors[name] + 1
    with pytest.raises(WeightsError, match="differs from the tensor it repeats"):
        from_cut3r_layout(tensors)


class Harmful:
    """Creates a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", ["torch", "pickle"])
def test_no_pickle_is_ever_executed(tmp_path: Path, protocol: str) -> None:
    path, trace = tmp_path / "harmful.pth", tmp_path / "executed"
    content = {"model": {"pose_token": torch.zeros(1)}, "args": Harmful(trace)}
    if protocol == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(WeightsError, match=r"harmful\.pth"):
        read_checkpoint(path)
    assert not trace.exists()


def test_only_the_namespace_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "odd.pth"
    torch.save({"args": Path("x"), "model": {}}, path)
    with pytest.raises(WeightsError, match=r"refused.*execute pathlib"):
        read_checkpoint(path)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x00" * 200])
def test_garbage_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "garbage.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"garbage\.pth"):
        read_checkpoint(path)


def test_truncated_safetensors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    write_checkpoint(random_network(MEM3R), path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(WeightsError, match="damaged"):
        read_checkpoint(path)


def test_full_disk_is_one_clear_line_and_keeps_the_old_file(
    tmp_path: Path,
) -> None:
    """Any file above 100 kB fails, as on a full disk."""
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"old")
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OutputError, match=r"cannot write .*weights\.safetensors"):
            write_checkpoint(random_network(MEM3R), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_our_checkpoint_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    network = random_network(MEM3R)
    write_checkpoint(network, path)
    checkpoint = read_checkpoint(path)
    assert checkpoint.config == MEM3R
    restored = build_network(checkpoint, MEM3R)
    for name, tensor in network.state_dict().items():
        assert torch.equal(restored.state_dict()[name], tensor), name
    assert not restored.training


def test_wrong_shape_is_named(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    tensors = dict(random_network(MEM3R).state_dict())
    tensors["decoder.embed_image.weight"] = torch.zeros(3, 3)
    del tensors["heads.pose.fc1.bias"]
    tensors["surprise"] = torch.zeros(1)
    save_file(tensors, path)
    with pytest.raises(WeightsError) as caught:
        build_network(read_checkpoint(path), MEM3R)
    message = str(caught.value)
    for part in ("heads.pose.fc1.bias", "surprise", "[3, 3]", str(path)):
        assert part in message
    assert "\n" not in message


def test_weights_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    tensors = dict(random_network(MEM3R).state_dict())
    tensors["heads.pose.fc1.bias"] = torch.full_like(tensors["heads.pose.fc1.bias"], torch.nan)
    save_file(tensors, path)
    with pytest.raises(WeightsError, match="not finite"):
        build_network(read_checkpoint(path), MEM3R)


def test_conversion_to_safetensors(
    cut3r: ReconstructionNetwork, public_file: Path, tmp_path: Path
) -> None:
    output = tmp_path / "converted.safetensors"
    convert_checkpoint(public_file, output, CUT3R)
    converted = build_network(read_checkpoint(output), CUT3R)
    assert all(torch.equal(v, cut3r.state_dict()[k]) for k, v in converted.state_dict().items())


def test_mem3r_made_of_cut3r_starts_close_to_it(
    cut3r: ReconstructionNetwork, public_file: Path, tmp_path: Path
) -> None:
    mem3r = convert_checkpoint(public_file, tmp_path / "mem3r.safetensors", MEM3R)
    generator = torch.Generator().manual_seed(5)
    states = [cut3r.initial_state(), mem3r.initial_state()]
    image = torch.rand(1, 3, *SIZE, generator=generator) * 2 - 1
    points = []
    with torch.inference_mode():
        for index, network in enumerate((cut3r, mem3r)):
            output, states[index] = network.step(states[index], network.encode(image), SIZE)
            assert output.points_self is not None
            points.append(output.points_self)
    difference = (points[0] - points[1]).abs().max() / points[0].abs().max()
    assert difference < 0.02
    moved = (states[0].tokens - states[1].tokens).abs().mean() / states[0].tokens.abs().mean()
    assert moved < 0.05


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    write_checkpoint(random_network(CUT3R), path)
    with pytest.raises(WeightsError, match="mem3r-tiny"):
        load_network("mem3r-tiny", str(path))


def test_settings_that_change_no_shape_must_agree(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    write_checkpoint(random_network(MEM3R), path)
    fewer_heads = replace(MEM3R, decoder=replace(MEM3R.decoder, state_heads=1))
    with pytest.raises(WeightsError, match=r"decoder\.state_heads is 2 there and 1 here"):
        build_network(read_checkpoint(path), fewer_heads)
    renamed = replace(MEM3R, name="another", picture_size=64)
    assert build_network(read_checkpoint(path), renamed).config == renamed


def test_unknown_weights_are_named() -> None:
    with pytest.raises(WeightsError, match="no-such-weights"):
        find_weights("no-such-weights")


def test_random_weights_depend_on_nothing_else() -> None:
    torch.manual_seed(1)
    first = load_network("mem3r-tiny", "random")
    torch.manual_seed(2)
    second = load_network("mem3r-tiny", "random")
    assert all(torch.equal(v, second.state_dict()[k]) for k, v in first.state_dict().items())
    assert weights_digest("random") == "random"
