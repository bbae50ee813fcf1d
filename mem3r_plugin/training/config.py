"""Settings of a training run; `configs/training/*.yaml` fill these in."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mem3r_plugin.errors import ConfigError
from mem3r_plugin.shares import check_share
from mem3r_plugin.training.worlds import CameraEffects, Handling


@dataclass(frozen=True)
class Stage:
    """A stretch of training with sequences of one length; a curriculum is a list of them."""

    steps: int
    """Optimiser steps."""
    views: int
    """Views in a sequence."""
    sequences: int
    """Sequences in a batch, on each device."""
    stride: tuple[int, int] = (1, 8)
    """Least and greatest number of path frames from one view to the next; drawn for each sequence."""
    encoder_only: bool = False
    """Teach the encoder alone, by `loss.token_flow`: a copying start is worth little until tokens tell what
    can be compared."""
    planes: float = 0.0
    """Share of sequences that show one textured plane in place of a world, 0 to 1."""
    dense_views: int | None = None
    """Views of each sequence, spread evenly from the first to the last, whose dense heads are computed; None
    for all. Poses are learned from every view."""


@dataclass(frozen=True)
class DataConfig:
    """What the network is shown: procedural worlds, endless."""

    size: tuple[int, int] = (128, 96)
    """Width and height of the pictures as they are rendered; multiples of 16."""
    shapes: tuple[tuple[int, int], ...] = ()
    """Sizes that batches have in turn, none larger than `size`: cameras take wide and upright pictures. Where
    there is room, a picture is anything from the largest cut of that shape to one as small as it."""
    textures: Path | None = None
    """Folder of pictures for surfaces, such as `mem3r textures` makes, beside the procedural textures."""
    photo_share: float = 0.5
    """How often a picture of `textures` takes the place of a procedural texture."""
    things: Path | None = None
    """Folder of models of furniture, cars, trees and people, such as `mem3r things` makes, to set up beside
    what is built of boxes."""
    thing_share: float = 0.7
    """Share of worlds with such things, 0 to 1."""
    greenery: float = 0.0
    """Share of streets that lead between gardens and trees instead of closed rows of houses, 0 to 1."""
    sobriety: float = 0.0
    """Share of worlds with mostly plain surfaces in muted colours, as most real ones have, 0 to 1."""
    handling: Handling = field(default_factory=Handling)
    """What a person's hands and feet do to the paths."""
    effects: CameraEffects = field(default_factory=CameraEffects)
    """What a real camera does to the pictures, besides noise and the like."""
    grading: float = 0.0
    """Share of sequences given another camera's brightness, contrast, colours and sharpness, 0 to 1; drawn
    anew at every use of a clip."""
    supersample: int = 1
    """Side of the grid of samples averaged for a pixel's colour."""
    far: float = 80.0
    """Depth in metres beyond which pixels do not count."""
    workers: int = 1
    """Processes that render ahead; 0 renders between steps, on the training device."""
    keep: Path | None = None
    """Folder in which rendered clips are kept, to be cut into sequences again and again; worth it where
    rendering takes as long as learning. None renders every sequence anew."""
    clips: int = 2000
    """Worlds rendered in all, a clip of each, where clips are kept."""
    clip_frames: int = 32
    """Frames of a kept clip."""
    clip_stride: int = 2
    """Path frames from one frame of a kept clip to the next; strides of sequences are rounded to it."""

    @property
    def first_shape(self) -> tuple[int, int]:
        """Width and height of the network's ordinary pictures, those of held-back worlds."""
        return self.shapes[0] if self.shapes else self.size


@dataclass(frozen=True)
class LossWeights:
    """How much each loss counts; a head whose losses have no weight is not computed."""

    points_self: float = 1.0
    """Points in the camera's own frame."""
    points_world: float = 1.0
    """Points in the first camera's frame."""
    depth: float = 0.0
    """Depth in each camera, near and far alike, at each sequence's best scale."""
    edges: float = 0.0
    """Steps of depth from pixel to pixel, so that edges are not blurred."""
    rgb: float = 0.0
    """Colours of views that are given by their rays alone; 0 gives every view as a picture."""
    pose: float = 1.0
    """Camera-to-world pose."""
    motion: float = 1.0
    """Pose of each view relative to the one before."""
    patch_flow: float = 0.0
    """Where the parts of each patch were in the view before; only a help for learning, its head is not kept
    with the weights."""
    token_flow: float = 0.0
    """The same, told from the encoder's tokens of both views, which teaches the encoder to keep what
    comparing needs."""
    confidence: float = 0.2
    """beta, the reward for confidence."""


@dataclass(frozen=True)
class OptimiserConfig:
    """AdamW with warm-up and cosine decay."""

    learning_rate: float = 1e-6
    """Peak learning rate."""
    final_fraction: float = 0.02
    """Learning rate at the end, as a fraction of the peak."""
    warmup_steps: int = 500
    """Steps of linear warm-up."""
    weight_decay: float = 0.05
    """Decoupled weight decay of matrices; vectors and tokens have none."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Decay rates of the moments."""
    clip: float = 1.0
    """Largest gradient norm."""


@dataclass(frozen=True)
class TrainingConfig:
    """One training run."""

    model: str = "mem3r"
    """Preset of `configs/model`, or a YAML file."""
    start: str | None = None
    """Weights to start from: a bundled name, a path (a CUT3R checkpoint becomes a Mem3R), or a Hugging Face
    repository; None starts from random weights."""
    transplant: bool = False
    """Let `start` have another pose memory or gate than `model`; both begin anew, even where they would fit,
    so that variants start alike."""
    copying_start: bool = False
    """Begin with decoders that copy the last picture into the state and look at it there
    (`training.matching`): comparing pictures is then learned in minutes. The state decoder starts anew."""
    stages: tuple[Stage, ...] = (Stage(steps=1000, views=4, sequences=8),)
    """The curriculum."""
    rounds: int = 1
    """How many times the stages are gone through; several let short and long sequences take turns."""
    data: DataConfig = field(default_factory=DataConfig)
    """Worlds and pictures."""
    loss: LossWeights = field(default_factory=LossWeights)
    """Weights of the losses."""
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    """Optimiser and schedule."""
    truncate: int = 0
    """Cut the gradient through the state every so many views; 0 never does."""
    checkpoint_activations: bool = False
    """Recompute encoder, recurrence and heads in the backward pass, a few views at a time; much less memory,
    a third slower."""
    shard: bool = False
    """With several processes, let each hold a share of weights and moments (FSDP) rather than all of them."""
    compile: bool = False
    """Compile the transformer blocks (`torch.compile`): minutes at first, then faster with small batches;
    wants a C++ compiler."""
    precision: Literal["no", "bf16", "fp16"] = "bf16"
    """Mixed precision, as accelerate names it."""
    seed: int = 0
    """Seed of the initial weights and of the worlds."""
    threads: int = 0
    """CPU threads of the training process; 0 leaves torch's choice."""
    log_every: int = 20
    """Steps from one line of the log to the next."""
    checkpoint_minutes: float = 5.0
    """Minutes from one checkpoint to the next."""
    validate_every: int = 1000
    """Steps from one measurement on held-back worlds to the next."""

    def __post_init__(self) -> None:
        """Refuse what cannot run.

        Raises:
            ConfigError: picture sizes no network accepts, shares that are none, seeds that belong to
                held-back worlds, no round, a stage without a loss, or nothing to transplant from.
        """
        data = self.data
        for name, size in (("size", data.size), *(("shapes", shape) for shape in data.shapes)):
            if any(side % 16 for side in size):
                raise ConfigError(f"data.{name} = {size}: both sides must be multiples of 16")
            if size[0] > data.size[0] or size[1] > data.size[1]:
                raise ConfigError(f"data.{name} = {size} does not fit into data.size = {data.size}")
        for name in ("photo_share", "thing_share", "greenery", "sobriety", "grading"):
            check_share(f"data.{name}", getattr(data, name))
        if not 0 <= self.seed < 1000:
            raise ConfigError(f"seed = {self.seed}: must lie from 0 to 999, others are held back")
        if self.rounds < 1:
            raise ConfigError(f"rounds = {self.rounds}: must be at least 1")
        if any(stage.encoder_only for stage in self.stages) and not self.loss.token_flow:
            raise ConfigError(
                "a stage with encoder_only learns by loss.token_flow: give it a weight"
            )
        if self.transplant and self.start is None:
            raise ConfigError("transplant takes parts of the weights in start: name some there")

    @property
    def steps(self) -> int:
        """Optimiser steps of all stages in all rounds."""
        return self.rounds * sum(stage.steps for stage in self.stages)

    def stage_at(self, step: int) -> Stage:
        """The stage that `step`, from 0, belongs to."""
        for stage in self.rounds * self.stages:
            if step < stage.steps:
                return stage
            step -= stage.steps
        return self.stages[-1]
