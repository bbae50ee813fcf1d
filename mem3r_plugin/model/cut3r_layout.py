"""Names of the public CUT3R checkpoint (`cut3r_512_dpt_4_64.pth`) and what we call the same tensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from mem3r_plugin.errors import WeightsError

ALIASES = re.compile(r"\.scratch\.layer_rn\.(\d)\.")
"""Second names of `scratch.layer{1..4}_rn`; the public file stores those tensors twice."""

_RENAMES: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    (r"^patch_embed\.proj\.", "image_encoder.patch_embedding."),
    (r"^enc_blocks\.", "image_encoder.blocks."),
    (r"^enc_norm\.", "image_encoder.norm."),
    (r"^patch_embed_ray_map\.proj\.", "ray_encoder.patch_embedding."),
    (r"^enc_blocks_ray_map\.", "ray_encoder.blocks."),
    (r"^enc_norm_ray_map\.", "ray_encoder.norm."),
    (r"^masked_img_token$", "masked_image_token"),
    (r"^masked_ray_map_token$", "masked_ray_token"),
    (r"^register_tokens\.weight$", "decoder.initial_tokens"),
    (r"^decoder_embed_state\.", "decoder.embed_state."),
    (r"^decoder_embed\.", "decoder.embed_image."),
    (r"^dec_blocks_state\.", "decoder.state_blocks."),
    (r"^dec_blocks\.", "decoder.image_blocks."),
    (r"^dec_norm_state\.", "decoder.state_norm."),
    (r"^dec_norm\.", "decoder.image_norm."),
    (r"^pose_token$", "pose_memory.first_pose_token"),
    (r"^pose_retriever\.mem$", "pose_memory.slots"),
    (r"^pose_retriever\.masked_token$", "pose_memory.masked_pose"),
    (r"^pose_retriever\.proj_q\.", "pose_memory.query."),
    (r"^pose_retriever\.", "pose_memory."),
    (r"^downstream_head\.dpt_self\.", "heads.points_self."),
    (r"^downstream_head\.dpt_cross\.", "heads.points_world."),
    (r"^downstream_head\.dpt_rgb\.", "heads.rgb."),
    (r"^downstream_head\.final_transform\.", "heads.to_world."),
    (r"^downstream_head\.pose_head\.mlp\.", "heads.pose."),
    (r"\.attn\.proj\.", ".attention.out."),
    (r"\.attn\.", ".attention."),
    (r"\.cross_attn\.projq\.", ".cross_attention.query."),
    (r"\.cross_attn\.projk\.", ".cross_attention.key."),
    (r"\.cross_attn\.projv\.", ".cross_attention.value."),
    (r"\.cross_attn\.proj\.", ".cross_attention.out."),
    (r"\.norm_y\.", ".norm_context."),
    (r"\.(norm[12])\.mlp\.1\.", r".\1.modulation."),
    (r"\.scratch\.layer([1-4])_rn\.", lambda m: f".project.{int(m[1]) - 1}."),
    (r"\.scratch\.refinenet([1-4])\.", lambda m: f".fusion.{int(m[1]) - 1}."),
    (r"\.resConfUnit1\.", ".lateral."),
    (r"\.resConfUnit2\.", ".refine."),
    (r"\.out_conv\.", ".out."),
    (r"\.act_postprocess\.", ".reassemble."),
    (r"\.head\.([024])\.", lambda m: f".output.{int(m[1]) // 2}."),
]


def our_name(public_name: str) -> str:
    """What a tensor of the public checkpoint is called in `ReconstructionNetwork`."""
    name = public_name
    for pattern, replacement in _RENAMES:
        name = re.sub(pattern, replacement, name)
    return name


def is_cut3r_layout(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a state dictionary carries CUT3R's names."""
    return "register_tokens.weight" in tensors and "pose_token" in tensors


def from_cut3r_layout(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A CUT3R state dictionary under our names, each tensor once.

    Raises:
        WeightsError: an alias holds other values than the tensor it stands for.
    """
    renamed = {our_name(name): t for name, t in tensors.items() if not ALIASES.search(name)}
    for name, tensor in tensors.items():
        alias = ALIASES.search(name)
        if alias is None:
            continue
        original = renamed.setdefault(
            our_name(ALIASES.sub(f".scratch.layer{int(alias[1]) + 1}_rn.", name)), tensor
        )
        if not torch.equal(original, tensor):
            raise WeightsError(
                f"damaged CUT3R checkpoint: {name} differs from the tensor it repeats"
            )
    return renamed
