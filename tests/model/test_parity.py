"""Our network, update rules and functions against tensors of CUT3R, TTT3R and TTSA3R."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

import pytest
import torch
from torch import Tensor

from mem3r_plugin.geometry.focal import weiszfeld_focal
from mem3r_plugin.geometry.pose import ResetChain
from mem3r_plugin.model.config import NetworkConfig
from mem3r_plugin.model.cut3r_layout import ALIASES, from_cut3r_layout
from mem3r_plugin.model.heads import (
    FrameOutput,
    HeadName,
    decode_points,
    decode_pose,
    decode_rgb,
    pose_matrix,
)
from mem3r_plugin.model.network import ReconstructionNetwork, Recurrence
from mem3r_plugin.model.rotary import image_positions, rotary_for, state_positions
from mem3r_plugin.model.updates.plain import PlainUpdate
from mem3r_plugin.model.updates.rule import UpdateContext, UpdateRule
from mem3r_plugin.model.updates.ttsa3r import TTSA3RStep, TTSA3RUpdate
from mem3r_plugin.model.updates.ttt3r import TTT3RUpdate
from tests.model.golden import (
    HALF_TOLERANCE,
    TOLERANCE,
    Golden,
    cut3r_config,
    generated_weight,
    public_names,
)

VARIANTS = ("cut3r", "ttt3r", "ttsa3r")
ALL_HEADS: tuple[HeadName, ...] = ("self", "world", "rgb")


def reference_rule(variant: str) -> UpdateRule:
    rules: dict[str, UpdateRule] = {
        "cut3r": PlainUpdate(),
        "ttt3r": TTT3RUpdate(),
        "ttsa3r": RecordingTTSA3R(),
    }
    return rules[variant]


@dataclass
class View:
    """One stored view."""

    image: Tensor | None
    ray_map: Tensor | None
    update: bool
    reset: bool

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        if self.image is not None:
            return self.image.shape[-2], self.image.shape[-1]
        assert self.ray_map is not None
        return self.ray_map.shape[1], self.ray_map.shape[2]


def views_of(golden: Golden, scenario: str) -> Iterator[View]:
    """The stored views of a scenario; those without flags are pictures that update."""
    prefix = f"{scenario}.in" if scenario else "in"
    for index in count():
        image = golden.tensors.get(f"{prefix}.{index}.img")
        rays = golden.tensors.get(f"{prefix}.{index}.ray_map")
        if image is None and rays is None:
            return
        flags = golden.tensors.get(f"{prefix}.{index}.flags", torch.tensor([1, 0, 1, 0])).bool()
        has_image, has_rays, update, reset = flags.tolist()
        yield View(
            image if has_image else None,
            rays if has_rays else None,
            update=update and has_image,
            reset=reset,
        )


def build(config: NetworkConfig, weights: dict[str, Tensor]) -> ReconstructionNetwork:
    with torch.device("meta"):
        network = ReconstructionNetwork(config)
    network.load_state_dict(from_cut3r_layout(weights), assign=True)
    return network.eval()


@torch.inference_mode()
def replay(
    golden: Golden,
    network: ReconstructionNetwork,
    scenario: str,
    rule: UpdateRule,
    *,
    inputs: str | None = None,
    offline: bool = False,
    tolerance: float = TOLERANCE,
    learned_token_after_reset: bool = False,
) -> Checker:
    """Run a scenario and compare every tensor the file has for it.

    Args:
        golden: the file.
        network: a network with its weights.
        scenario: prefix of the tensors to compare with; empty for the full-size files.
        rule: the update rule of the reference.
        inputs: prefix of the views, where the scenario shares those of another.
        offline: add the learned stand-ins for missing inputs, as CUT3R's offline path does.
        tolerance: largest error allowed.
        learned_token_after_reset: start over with the learned pose token (TTT3R) instead of a memory read.
    """
    check = Checker(golden, scenario, tolerance)
    state = network.initial_state()
    check("init_state", state.tokens)
    check("state_pos", state_positions(network.config.decoder.state_tokens))
    demo, repeats_last = Demo(check), False
    for index, view in enumerate(views_of(golden, scenario if inputs is None else inputs)):
        tokens = network.encode_views(view.image, view.ray_map, mask_missing=offline)
        grid = (view.size[0] // 16, view.size[1] // 16)
        with recorded_layers(network) as layers:
            recurrence, after = network.recur(state, tokens, grid, rule=rule, update=view.update)
        output = network.read_out(tokens, recurrence.decoded.levels, grid, ALL_HEADS)
        check_recurrence(check, index, tokens, layers, recurrence)
        gate = (
            torch.ones_like(state.tokens[..., :1]) if recurrence.gate is None else recurrence.gate
        )
        overrules = rule.ignores_update_flag and recurrence.gate is not None
        check(f"gate.{index}", gate * (view.update or overrules))
        if isinstance(rule, RecordingTTSA3R) and recurrence.gate is not None:
            check(f"taum.{index}", rule.temporal)
            check(f"scum.{index}", rule.spatial)
        check_output(check, index, output)
        if not repeats_last:
            demo.add(index, output, resets=view.reset)
        repeats_last = view.reset
        state = after
        if view.reset:
            state = network.initial_state(read_first=not learned_token_after_reset)
        for name, tensor in (("state", state.tokens), ("mem", state.memory["slots"])):
            check(f"{name}.{index}", tensor)
            check(f"{name}_sub.{index}", tensor[:, ::16])
    demo.check()
    return check


@contextmanager
def recorded_layers(network: ReconstructionNetwork) -> Iterator[list[Tensor]]:
    """Image tokens after every layer of the image decoder."""
    layers: list[Tensor] = []
    hooks = [
        block.register_forward_hook(lambda _module, _inputs, output: layers.append(output))
        for block in network.decoder.image_blocks
    ]
    yield layers
    for hook in hooks:
        hook.remove()


class RecordingTTSA3R(TTSA3RUpdate):
    """TTSA3R as published, with its two factors left to be seen."""

    def __init__(self) -> None:
        super().__init__(as_published=True)
        self.temporal = self.spatial = torch.empty(0)

    def step(self) -> TTSA3RStep:
        rule = self

        class RecordingStep(TTSA3RStep):
            def temporal(self, context: UpdateContext) -> Tensor:
                rule.temporal = super().temporal(context)
                return rule.temporal

            def spatial(self, context: UpdateContext) -> Tensor:
                rule.spatial = super().spatial(context)
                return rule.spatial

        return RecordingStep(keep_always=True)


class Checker:
    """Compares tensors of one scenario and remembers which."""

    def __init__(self, golden: Golden, scenario: str, tolerance: float) -> None:
        self.golden = golden
        self.prefix = f"{scenario}." if scenario else ""
        self.tolerance = tolerance
        self.compared: set[str] = set()

    def __call__(self, name: str, ours: Tensor | None) -> None:
        if ours is not None and self.golden.compare(self.prefix + name, ours, self.tolerance):
            self.compared.add(self.prefix + name)

    def assert_complete(self) -> None:
        """Nothing the file holds for the scenario was left out."""
        stored = {
            name
            for name in self.golden.tensors
            if name.startswith(self.prefix) and not name.startswith((f"{self.prefix}in.", "w."))
        }
        assert stored, f"{self.golden.name} holds nothing for {self.prefix}"
        assert stored == self.compared, f"not compared: {sorted(stored - self.compared)}"


def check_recurrence(
    check: Checker, index: int, tokens: Tensor, layers: list[Tensor], ours: Recurrence
) -> None:
    """Everything between the encoder and the heads."""
    check(f"feat.{index}", tokens)
    check(f"pose_in.{index}", ours.pose_prior)
    check(f"cand_state.{index}", ours.decoded.candidate)
    check(f"cand_mem.{index}", ours.written_memory["slots"])
    check(f"dec_out.{index}", ours.decoded.levels[-1])
    for layer, after in enumerate([tokens, *layers[:-1], ours.decoded.levels[-1]]):
        check(f"dec.{index}.{layer}", after)


def check_output(check: Checker, index: int, output: FrameOutput) -> None:
    """Everything the heads give."""
    check(f"out.{index}.pts3d_in_self_view", output.points_self)
    check(f"out.{index}.conf_self", output.confidence_self)
    check(f"out.{index}.pts3d_in_other_view", output.points_world)
    check(f"out.{index}.conf", output.confidence_world)
    check(f"out.{index}.rgb", output.rgb)
    check(f"out.{index}.camera_pose", output.pose)


class Demo:
    """What the reference demos make of the outputs: chained poses, focal lengths, world points.

    The view fed again after a reset is left out. Focal lengths are taken from the reference's own points
    where the file has them: points near z = 0 make that estimate magnify the last digit a thousandfold.
    """

    def __init__(self, checker: Checker) -> None:
        self.checker = checker
        self.chain = ResetChain()
        self.poses: list[Tensor] = []
        self.focals: list[float] = []
        self.centres: list[tuple[int, int]] = []
        self.last_points = torch.empty(0)

    def add(self, index: int, output: FrameOutput, *, resets: bool) -> None:
        """Take one view's output."""
        assert output.points_self is not None
        placed = self.chain.place(output.camera_to_world[0].double().numpy(), resets)
        self.poses.append(torch.from_numpy(placed))
        self.last_points = output.points_self
        height, width = output.points_self.shape[1:3]
        self.centres.append((width // 2, height // 2))
        stored = self.checker.golden.tensors
        name = f"out.{index}.pts3d_in_self_view"
        points = stored.get(self.checker.prefix + name, stored.get(f"s1.{name}"))
        if points is not None:
            self.focals.append(weiszfeld_focal(points[0].numpy(), self.centres[-1]))

    def check(self) -> None:
        """Compare."""
        poses = torch.stack(self.poses)
        self.checker("demo.R", poses[:, :3, :3])
        self.checker("demo.t", poses[:, :3, 3])
        self.checker("demo.focal", torch.tensor(self.focals))
        self.checker("demo.pp", torch.tensor(self.centres))
        last = poses[-1].float()
        self.checker("demo.pts.last", self.last_points @ last[:3, :3].T + last[:3, 3])


@pytest.mark.parametrize("scenario", ["s1", "s2", "s3", "s4", "s2cut3r"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_small_network(variant: str, scenario: str) -> None:
    golden = Golden(f"golden_{variant}")
    if not golden.has(scenario):
        pytest.skip(f"golden_{variant} has no scenario {scenario}")
    network = build(cut3r_config(golden.json), golden.weights)
    replay(
        golden,
        network,
        scenario,
        PlainUpdate() if scenario == "s2cut3r" else reference_rule(variant),
        inputs="s2" if scenario == "s2cut3r" else scenario,
        learned_token_after_reset=variant == "ttt3r",
    ).assert_complete()


def test_offline_masks() -> None:
    golden = Golden("golden_cut3r")
    if not golden.has("s5"):
        pytest.skip("golden_cut3r has no scenario s5")
    network = build(cut3r_config(golden.json), golden.weights)
    replay(golden, network, "s5", PlainUpdate(), inputs="s4", offline=True).assert_complete()


def test_half_precision_rotary() -> None:
    golden = Golden("golden_cut3r")
    if not golden.has("s1half"):
        pytest.skip("golden_cut3r has no scenario s1half")
    network = build(cut3r_config(golden.json, half_rotary=True), golden.weights)
    replay(
        golden, network, "s1half", PlainUpdate(), inputs="s1", tolerance=HALF_TOLERANCE
    ).assert_complete()


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_full_size_network(variant: str) -> None:
    golden = Golden(f"golden_full_{variant}")
    network = build(cut3r_config(golden.json), full_size_weights(golden.json["seed"]))
    replay(
        golden,
        network,
        "",
        reference_rule(variant),
        learned_token_after_reset=variant == "ttt3r",
    ).assert_complete()


def test_rotary_positions_and_rotation() -> None:
    golden = Golden("golden_functions")
    compared = 0
    for name, tensor in golden.tensors.items():
        kind, *rest = name.split(".")
        if kind == "patch_pos":
            rows, columns = map(int, rest[0].split("x"))
            compared += golden.compare(name, image_positions(rows, columns, pose_token=False))
        elif kind == "state_pos":
            compared += golden.compare(name, state_positions(int(rest[0])))
        elif kind == "rope" and rest[1] == "in":
            positions = golden.tensors[f"rope.{rest[0]}.pos"]
            for batch, batch_positions in enumerate(positions):
                rotary = rotary_for(batch_positions, tensor.shape[-1])
                reference = golden.tensors[f"rope.{rest[0]}.out"][batch]
                torch.testing.assert_close(
                    rotary.rotate(tensor[batch]), reference, atol=1e-5, rtol=0
                )
                compared += 1
    assert compared >= 3


def test_activations() -> None:
    golden = Golden("golden_functions")
    points, confidence = decode_points(golden.tensors["act.raw"].permute(0, 2, 3, 1))
    assert golden.compare("act.pts3d", points)
    assert golden.compare("act.conf", confidence)
    assert golden.compare("act.rgb", decode_rgb(golden.tensors["act.rgb_raw"].permute(0, 2, 3, 1)))


def test_pose_encoding() -> None:
    golden = Golden("golden_functions")
    pose = decode_pose(golden.tensors["pose.raw"])
    assert golden.compare("pose.enc", pose)
    assert golden.compare("pose.c2w", pose_matrix(pose))
    points = golden.tensors["geotrf.pts"]
    matrices = golden.tensors["pose.c2w"]
    moved = torch.einsum("nij,n...j->n...i", matrices[:, :3, :3], points)
    assert golden.compare("geotrf.out", moved + matrices[:, None, None, :3, 3])


def full_size_weights(seed: int) -> dict[str, Tensor]:
    """Generated full-size weights under CUT3R's names, without the aliases."""
    return {
        name: generated_weight(name, shape, seed)
        for name, shape in public_names().items()
        if not ALIASES.search(name)
    }


@pytest.mark.parametrize("variant", VARIANTS)
def test_generated_weights_follow_the_rule(variant: str) -> None:
    golden = Golden(f"golden_full_{variant}")
    for name, expected in golden.json["generator_check"].items():
        weight = generated_weight(name, tuple(expected["shape"]), golden.json["seed"])
        first = torch.tensor(expected["first4"])
        torch.testing.assert_close(weight.flatten()[:4], first, rtol=1e-6, atol=1e-7)
