"""Every contestant over every course, once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from mem3r_plugin.errors import ConfigError
from mem3r_plugin.evaluation.drift.contestants import (
    STANDING_STILL,
    Contestant,
    read_contestants,
    read_network,
)
from mem3r_plugin.evaluation.drift.courses import (
    Course,
    Plan,
    WorldPlan,
    plan_courses,
)
from mem3r_plugin.evaluation.drift.results import DriftResults, Run
from mem3r_plugin.evaluation.drift.traces import (
    Trace,
    chamfer,
    errors_at,
    lengths_of,
    run_over,
    stand_still,
)
from mem3r_plugin.model.checkpoint import build_network
from mem3r_plugin.model.updates import load_rule
from mem3r_plugin.model.weights import weights_digest
from mem3r_plugin.progress import ProgressCallback, no_progress
from mem3r_plugin.stream.front_end import chosen_interval, pick_device
from mem3r_plugin.stream.preprocess import Preprocessor, four_by_three
from mem3r_plugin.training.validation import mean_depth

SHARED_DATA = Path("../shared/data")


@dataclass(frozen=True)
class DriftConfig:
    """What is compared, over what."""

    contestants: tuple[str, ...] = ("mem3r-tiny=mem3r-tiny:plain,ttt3r,ttsa3r,memix,filt3r",)
    """Rows of the table: NAME=WEIGHTS[,WEIGHTS…][:RULE[,RULE…]], with the weights of several seeds of one
    training, and update rules (plain by default), each a row."""
    lengths: tuple[int, ...] = (50, 100, 200, 400, 600, 800, 1000)
    """Frames at which errors are measured."""
    worlds: int = 2
    """Held-back worlds of each kind: rooms, corridors, streets and loops."""
    stride: int = 4
    """Path frames, of 15 to 30 a second, from one picture of a world to the next."""
    reset_interval: int | None = None
    """Frames after which every contestant's state starts anew, 0 for never; by default as its weights say."""
    data: tuple[Path, ...] = (SHARED_DATA,) if SHARED_DATA.is_dir() else ()
    """Folders of real sequences with known poses, a folder each; none for worlds alone."""
    output: Path = Path("drift")
    """Folder for drift.json and drift.png; runs that it holds already are not made again."""
    device: str | None = None
    """Where the networks run; by default a GPU if there is one."""

    def __post_init__(self) -> None:
        """Refuse what cannot be run.

        Raises:
            ConfigError: a number makes no sense, or a contestant is not written as it should be.
        """
        if min(self.lengths, default=0) < 3 or self.worlds < 0 or self.stride < 1:
            raise ConfigError(
                "lengths are at least 3 frames, worlds at least 0, the stride at least 1"
            )
        if self.reset_interval is not None and self.reset_interval < 0:
            raise ConfigError("reset_interval is a number of frames, or 0 for never")
        for folder in self.data:
            if not folder.is_dir():
                raise ConfigError(f"data: {folder} is no folder")
        read_contestants(self.contestants)


def run_drift(
    config: DriftConfig, progress: ProgressCallback = no_progress
) -> tuple[DriftResults, dict[str, Any]]:
    """Make all runs that are not made yet.

    Returns:
        the results and their summary (`DriftResults.summary`), both on disk in `config.output`.

    Raises:
        Mem3RError: weights or sequences cannot be read, or other results lie in the folder.
    """
    contestants = read_contestants(config.contestants)
    plans = plan_courses(config.worlds, max(config.lengths), config.stride, config.data)
    if not plans:
        raise ConfigError("nothing to run over: give worlds, or data with sequences")
    digests = {name: weights_digest(name) for row in contestants for name in row.weights}
    settings: dict[str, Any] = {"lengths": list(config.lengths), "stride": config.stride}
    if config.reset_interval is not None:
        settings["reset_interval"] = config.reset_interval
    results = DriftResults.open(config.output, settings)
    suite = _Suite(config, contestants, digests, results)
    for together in plans:
        suite.run(together, progress)
    summary = results.summary(contestants, digests)
    results.write(summary)
    return results, summary


@dataclass(frozen=True)
class _Suite:
    config: DriftConfig
    contestants: list[Contestant]
    digests: dict[str, str]
    results: DriftResults

    def run(self, plans: Sequence[Plan], progress: ProgressCallback) -> None:
        """Make the missing runs over some courses, each rendered or read once for each size of picture."""
        opened: dict[tuple[str, Preprocessor], Course] = {}
        stage = "drift: worlds" if isinstance(plans[0], WorldPlan) else f"drift: {plans[0].name}"
        entries = list(self.entries())
        for done, (contestant, weights) in enumerate(entries):
            progress(stage, done, len(entries))
            sha256, rule = self.digests[weights], contestant.rule
            missing = [plan for plan in plans if not self.results.find(sha256, rule, plan.name)]
            if not missing:
                continue
            checkpoint, network_config = read_network(weights)
            interval = chosen_interval(self.config.reset_interval, network_config)
            network_config = replace(network_config, reset_interval=interval)
            preprocess = Preprocessor.of(network_config)
            for plan in missing:
                if (plan.name, preprocess) not in opened:
                    opened[plan.name, preprocess] = course = self.opened(plan, preprocess)
                    self.add_baseline(plan, course, preprocess.size)
            courses = [opened[plan.name, preprocess] for plan in missing]
            network = build_network(checkpoint, network_config).to(self.device)
            started = time.monotonic()
            traces = run_over(courses, network, load_rule(rule))
            seconds = (time.monotonic() - started) / len(courses)
            for plan, course, trace in zip(missing, courses, traces, strict=True):
                head = {"weights": weights, "weights_sha256": sha256, "rule": rule}
                measured = self.measured(plan, course, trace)
                self.results.add({**head, "seconds": round(seconds, 2), **measured})

    def add_baseline(self, plan: Plan, course: Course, size: int) -> None:
        """What standing still gets, once for a course."""
        if self.results.find(None, STANDING_STILL, plan.name):
            return
        trace = stand_still(course, mean_depth(four_by_three(size)))
        head = {"weights": None, "weights_sha256": None, "rule": STANDING_STILL, "seconds": 0.0}
        self.results.add({**head, **self.measured(plan, course, trace)})

    def entries(self) -> Iterator[tuple[Contestant, str]]:
        """Every contestant with each of its weights."""
        for contestant in self.contestants:
            for weights in contestant.weights:
                yield contestant, weights

    def opened(self, plan: Plan, preprocess: Preprocessor) -> Course:
        """The course, which must be the one of earlier runs."""
        course = plan.open(preprocess)
        self.results.check_truth(plan.name, course.size, course.digest())
        return course

    @cached_property
    def device(self) -> torch.device:
        """Where networks run."""
        return pick_device(self.config.device)

    def measured(self, plan: Plan, course: Course, trace: Trace) -> Run:
        """What the file keeps of a run, but who ran."""
        return {
            "sequence": plan.name,
            "group": plan.group,
            "world": isinstance(plan, WorldPlan),
            "size": course.size,
            "truth": course.digest(),
            "errors": [
                {"frames": frames, **errors_at(course, trace, frames)}
                for frames in lengths_of(len(course), self.config.lengths)
            ],
            "chamfer": chamfer(course, trace),
        }
