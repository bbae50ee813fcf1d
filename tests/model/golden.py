"""Golden tensors of the reference implementations: where they are, and how ours are compared to them.

The folder comes from `MEM3R_GOLDEN` (default `../shared/golden`); any file with one of the known
names is used, whatever its sizes and seeds.
"""

from __future__ import annotations

import json
import os
import zlib
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from mem3r_plugin.model.config import (
    DecoderConfig,
    DPTConfig,
    EncoderConfig,
    GateConfig,
    MemoryConfig,
    NetworkConfig,
)

REPOSITORY = Path(__file__).parents[2]
FOLDER = Path(os.environ.get("MEM3R_GOLDEN", REPOSITORY.parent / "shared" / "golden"))
PUBLIC_NAMES = Path(__file__).with_name("cut3r_state_dict_keys.txt")
"""Names and shapes of the public CUT3R checkpoint's 1,248 tensors."""
TOLERANCE = 1e-5
HALF_TOLERANCE = 1e-4


def cut3r_config(golden: dict[str, Any], *, half_rotary: bool = False) -> NetworkConfig:
    """The configuration a golden file's JSON describes; full size where it holds no numbers."""
    config = golden["config"]
    gate = GateConfig(kind="none")
    if isinstance(config, str):
        return NetworkConfig("golden", memory=MemoryConfig(kind="local"), gate=gate)
    assert config["patch_size"] == 16
    assert config["mlp_ratio"] == 4
    dpt = config["dpt"]
    return NetworkConfig(
        "golden",
        encoder=EncoderConfig(
            width=config["enc_embed_dim"],
            depth=config["enc_depth"],
            heads=config["enc_num_heads"],
            ray_map_depth=config["ray_enc_depth"],
            half_rotary=half_rotary,
        ),
        decoder=DecoderConfig(
            width=config["dec_embed_dim"],
            depth=config["dec_depth"],
            image_heads=config["dec_num_heads"],
            state_heads=config["state_dec_num_heads"],
            state_tokens=config["state_size"],
        ),
        memory=MemoryConfig(kind="local", slots=config["local_mem_size"]),
        dpt=DPTConfig(dpt["feature_dim"], dpt["last_dim"], tuple(dpt["layer_dims"])),
        gate=gate,
    )


class Golden:
    """One golden file."""

    def __init__(self, name: str) -> None:
        path = FOLDER / f"{name}.safetensors"
        if not path.is_file():
            pytest.skip(f"no golden file {path} (set MEM3R_GOLDEN to a folder that has it)")
        self.name = name
        self.json = json.loads(path.with_suffix(".json").read_text())
        self.tensors = load_file(path)

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        """The stored state dictionary, under CUT3R's names."""
        return {
            name.removeprefix("w."): tensor
            for name, tensor in self.tensors.items()
            if name.startswith("w.")
        }

    def has(self, scenario: str) -> bool:
        return any(name.startswith(f"{scenario}.") for name in self.tensors)

    def compare(self, name: str, ours: Tensor, tolerance: float = TOLERANCE) -> bool:
        """Check one tensor if the file has it; max|a-b| / max|b| is the error."""
        reference = self.tensors.get(name)
        if reference is None:
            return False
        assert ours.numel() == reference.numel(), f"{name}: {ours.shape} for {reference.shape}"
        difference = (ours.reshape(reference.shape).double() - reference.double()).abs().max()
        error = (difference / reference.double().abs().max().clamp_min(1e-30)).item()
        assert error <= tolerance, f"{self.name} {name}: error {error:.2e} above {tolerance:.0e}"
        return True


def public_names() -> dict[str, tuple[int, ...]]:
    """Shapes by name of the public checkpoint's tensors, aliases included."""
    rows = (line.split("\t") for line in PUBLIC_NAMES.read_text().splitlines())
    return {
        name: tuple(int(n) for n in shape.strip("()").split(",") if n.strip())
        for name, shape, _ in rows
    }


def generated_weight(name: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """The full-size weight of the rule written in `golden_full_*.json` ("weight_rule")."""
    random = np.random.RandomState((zlib.crc32(name.encode()) + seed) % 2**32)
    z = random.standard_normal(int(np.prod(shape))).astype(np.float32).reshape(shape)
    return torch.from_numpy(z * np.float32(_scale(name, shape)) + np.float32(_offset(name, shape)))


def _is_norm_weight(name: str, shape: tuple[int, ...]) -> bool:
    return len(shape) == 1 and name.endswith(".weight")


def _offset(name: str, shape: tuple[int, ...]) -> float:
    return 1.0 if _is_norm_weight(name, shape) else 0.0


def _scale(name: str, shape: tuple[int, ...]) -> float:
    tokens = ("pose_token", "masked_img_token", "masked_ray_map_token", "register_tokens.weight")
    if name in (*tokens, "pose_retriever.masked_token", "pose_retriever.mem"):
        return 0.5
    if len(shape) == 1:
        if name.startswith("dec_blocks_state.") and name.endswith(
            ("cross_attn.projq.bias", "cross_attn.projk.bias")
        ):
            return 0.5
        return 0.3 if name.endswith("pose_head.mlp.fc2.bias") else 0.1
    transposed = name.endswith(("act_postprocess.0.1.weight", "act_postprocess.1.1.weight"))
    fan = shape[0] if transposed else int(np.prod(shape[1:]))
    return _gain(name) / np.sqrt(fan)


def _gain(name: str) -> float:
    gain = 1.0
    if name.endswith(("attn.proj.weight", "mlp.fc2.weight")):
        gain = 0.25 if ".write_blocks." in name else 0.5
    if name.endswith("pose_head.mlp.fc2.weight"):
        gain = 1.0
    if "resConfUnit" in name:
        gain = 0.7
    if name.endswith(".head.4.weight"):
        gain = 0.6
    if name.endswith(("cross_attn.projq.weight", "cross_attn.projk.weight")):
        gain = 1.5
    if name.endswith(("norm1.mlp.1.weight", "norm2.mlp.1.weight")):
        gain = 0.5
    return gain
