"""What a network is made of; the presets in `configs/model` fill these in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from mem3r_plugin.errors import ConfigError

PATCH = 16
"""Side of an image patch in pixels; the DPT heads upsample by exactly this factor."""

MLP_RATIO = 4
"""Hidden width of every MLP over its input width."""

RAY_ENCODER_HEADS = 16
"""Attention heads of the ray-map encoder, whatever the encoder's width."""


@dataclass(frozen=True)
class EncoderConfig:
    """ViT encoder of one picture; the ray-map encoder has the same width."""

    width: int = 1024
    """Channels of the image tokens."""
    depth: int = 24
    """Transformer blocks."""
    heads: int = 16
    """Attention heads."""
    ray_map_depth: int = 2
    """Blocks of the ray-map encoder."""
    half_rotary: bool = False
    """Round queries and keys to float16 around the rotary embedding, as CUT3R's published code does."""


@dataclass(frozen=True)
class DecoderConfig:
    """The two decoders, image and state, that attend to each other."""

    width: int = 768
    """Channels of decoder, state and pose tokens."""
    depth: int = 12
    """Block pairs; a multiple of 4, since the heads read layers at one half and three quarters."""
    image_heads: int = 12
    """Attention heads of the image decoder."""
    state_heads: int = 16
    """Attention heads of the state decoder; not recognisable from a checkpoint's shapes."""
    state_tokens: int = 768
    """Number of state tokens, the scene memory."""


@dataclass(frozen=True)
class MemoryConfig:
    """The pose memory: what gives a frame its pose token before decoding."""

    kind: Literal["local", "fast_weights"] = "fast_weights"
    """CUT3R's `local` slots, or Mem3R's `fast_weights`."""
    slots: int = 256
    """Slots of the local memory."""
    heads: int = 12
    """Heads of the fast-weight memory, each with three square matrices."""
    base_rate: float = 0.001
    """c of Mem3R's learning rate softplus(W f + c)."""
    max_decay: float = 0.01
    """gamma of Mem3R's decay 1 - gamma sigmoid(W f)."""


@dataclass(frozen=True)
class GateConfig:
    """Mem3R's learned gate on what is written to the state."""

    kind: Literal["none", "channel"] = "channel"
    """`none` writes the candidate state as it is (CUT3R)."""
    hidden: int = 384
    """Hidden width of the gate's MLP."""


@dataclass(frozen=True)
class DPTConfig:
    """The dense prediction heads."""

    features: int = 256
    """Channels of the fusion pyramid."""
    output_features: int = 128
    """Channels before the last 1x1 convolution."""
    levels: tuple[int, int, int, int] = (96, 192, 384, 768)
    """Channels of the four token maps, finest first."""


@dataclass(frozen=True)
class NetworkConfig:
    """One recurrent reconstruction network; the defaults are the full-size Mem3R."""

    name: str = "mem3r"
    """Name of the preset."""
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    """Image and ray-map encoder."""
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    """Image and state decoder."""
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    """Pose memory."""
    gate: GateConfig = field(default_factory=GateConfig)
    """State gate."""
    dpt: DPTConfig = field(default_factory=DPTConfig)
    """Dense heads."""
    picture_size: int = 512
    """Long side in pixels of the pictures it was trained on, and the default of the front end."""
    same_area: bool = False
    """Whether it was trained to see wide and upright pictures with as many patches as a 4:3 one of long side
    `picture_size`, in place of the same long side."""
    reset_interval: int | None = None
    """Frames after which the front end starts the state anew by default, for weights that keep their poses no
    longer than the sequences they were trained on; None for never."""

    def __post_init__(self) -> None:
        """Refuse sizes that no network can be built from.

        Raises:
            ConfigError: a width does not divide into heads that rotary embeddings can rotate.
        """
        encoder, decoder, memory = self.encoder, self.decoder, self.memory
        splits = [
            ("encoder.width", encoder.width, "encoder.heads", encoder.heads),
            ("encoder.width", encoder.width, "ray-map heads", RAY_ENCODER_HEADS),
            ("decoder.width", decoder.width, "decoder.image_heads", decoder.image_heads),
            ("decoder.width", decoder.width, "decoder.state_heads", decoder.state_heads),
        ]
        for width_name, width, heads_name, heads in splits:
            if width % (4 * heads):
                raise ConfigError(
                    f"model {self.name}: {width_name} = {width} must be a multiple of "
                    f"4 x {heads_name} = {4 * heads}"
                )
        if decoder.depth % 4:
            raise ConfigError(
                f"model {self.name}: decoder.depth = {decoder.depth} is no multiple of 4"
            )
        if memory.kind == "fast_weights" and decoder.width % memory.heads:
            raise ConfigError(
                f"model {self.name}: decoder.width = {decoder.width} is no multiple of "
                f"memory.heads = {memory.heads}"
            )
