"""Networks small enough for tests."""

from __future__ import annotations

from mem3r_plugin.model.config import (
    DecoderConfig,
    DPTConfig,
    EncoderConfig,
    GateConfig,
    MemoryConfig,
    NetworkConfig,
)

MEM3R = NetworkConfig(
    name="mem3r-mini",
    encoder=EncoderConfig(width=64, depth=2, heads=2, ray_map_depth=1),
    decoder=DecoderConfig(width=48, depth=4, image_heads=3, state_heads=2, state_tokens=20),
    memory=MemoryConfig(heads=3),
    gate=GateConfig(hidden=24),
    dpt=DPTConfig(features=16, output_features=8, levels=(8, 12, 16, 24)),
)
CUT3R = NetworkConfig(
    name="cut3r-mini",
    encoder=MEM3R.encoder,
    decoder=MEM3R.decoder,
    memory=MemoryConfig(kind="local", slots=8),
    gate=GateConfig(kind="none"),
    dpt=MEM3R.dpt,
)
