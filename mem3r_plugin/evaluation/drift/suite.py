"""Every contestant over every course, once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    world_size,
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
from mem3r_plugin.stream.front_end import FrontEnd, pick_device
from mem3r_plugin.stream.preprocess import Preprocessor
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
    settings = {"lengths": list(config.lengths), "stride": config.stride}
    results = DriftResults.open(config.output, settings)
    suite = _Suite(config, contestants, digests, results)
    for done, plan in enumerate(plans):
        progress(f"drift: {plan.name}", done, len(plans))
        suite.run(plan)
    summary = results.summary(contestants, digests)
    results.write(summary)
    return results, summary


@dataclass(frozen=True)
class _Suite:
    config: DriftConfig
    contestants: list[Contestant]
    digests: dict[str, str]
    results: DriftResults

    def run(self, plan: Plan) -> None:
        """Make the missing runs over one course, which is rendered or read once for each size of picture."""
        courses: dict[int, Course] = {}
        baseline = self.results.find(None, STANDING_STILL, plan.name)
        for contestant, weights in self.entries():
            if self.results.find(self.digests[weights], contestant.rule, plan.name):
                continue
            size = read_network(weights)[1].picture_size
            course = courses.get(size) or self.opened(plan, size)
            courses[size] = course
            if baseline is None:
                started = time.monotonic()
                trace = stand_still(course, mean_depth(world_size(size)))
                baseline = self.measured(plan, course, size, trace, time.monotonic() - started)
                self.results.add(
                    {"weights": None, "weights_sha256": None, "rule": STANDING_STILL, **baseline}
                )
            front_end = self.front_end(contestant, weights)
            started = time.monotonic()
            trace = run_over(course, front_end)
            run = self.measured(plan, course, size, trace, time.monotonic() - started)
            head = {"weights": weights, "weights_sha256": self.digests[weights]}
            self.results.add({**head, "rule": contestant.rule, **run})

    def entries(self) -> Iterator[tuple[Contestant, str]]:
        """Every contestant with each of its weights."""
        for contestant in self.contestants:
            for weights in contestant.weights:
                yield contestant, weights

    def opened(self, plan: Plan, size: int) -> Course:
        """The course, which must be the one of earlier runs."""
        course = plan.open(size)
        self.results.check_truth(plan.name, size, course.digest())
        return course

    def front_end(self, contestant: Contestant, weights: str) -> FrontEnd:
        """A front end at its first frame."""
        checkpoint, network_config = read_network(weights)
        network = build_network(checkpoint, network_config).to(pick_device(self.config.device))
        return FrontEnd(
            network, load_rule(contestant.rule), Preprocessor(network_config.picture_size)
        )

    def measured(self, plan: Plan, course: Course, size: int, trace: Trace, seconds: float) -> Run:
        """What the file keeps of a run, but who ran."""
        return {
            "sequence": plan.name,
            "group": plan.group,
            "world": isinstance(plan, WorldPlan),
            "size": size,
            "truth": course.digest(),
            "seconds": round(seconds, 2),
            "errors": [
                {"frames": frames, **errors_at(course, trace, frames)}
                for frames in lengths_of(len(course), self.config.lengths)
            ],
            "chamfer": chamfer(course, trace),
        }
