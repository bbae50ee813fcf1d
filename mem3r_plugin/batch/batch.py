"""A batch: what to do, and who does it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
import tyro

from mem3r_plugin.batch.ray_cluster import RayConfig, make_scans_on_ray
from mem3r_plugin.batch.scan_list import read_list
from mem3r_plugin.batch.work import Outcome, make_scan
from mem3r_plugin.errors import ConfigError
from mem3r_plugin.stream.passage import StreamPassage
from mem3r_plugin.stream.run import RunConfig, load_passage
from mem3r_plugin.stream.together import run_together

Engine = Literal["local", "ray"]


@dataclass(frozen=True)
class ScanOptions(RunConfig):
    """How every scan of a batch is made: the options of a run, without those that the list decides."""

    source: tyro.conf.Suppress[str] = ""
    output: tyro.conf.Suppress[Path] = Path()
    resume: tyro.conf.Suppress[bool] = True
    overwrite: tyro.conf.Suppress[bool] = False


@dataclass(frozen=True)
class BatchConfig:
    """Many scans from a list of sources."""

    list: tyro.conf.Positional[Path]
    """Text file with a source a line: video, image folder or glob, relative to the list's folder; # begins a
    comment."""
    output: Path
    """Folder of the scans, each in a folder named after its source."""
    engine: Engine = "local"
    """Scans in this process, or several at once on a Ray cluster."""
    together: int = 1
    """Scans that pass through one network side by side, where its device has room for them: for a GPU that
    one does not fill. With engine local."""
    threads: int | None = None
    """CPU threads of a scan; by default all of this machine's, with Ray one."""
    ray: RayConfig = field(default_factory=RayConfig)
    """Where Ray makes the scans."""
    scan: ScanOptions = field(default_factory=ScanOptions)
    """How each scan is made."""

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            ConfigError: a value makes no sense.
        """
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"threads is {self.threads}, it must be at least 1")
        if self.together < 1:
            raise ConfigError(f"together is {self.together}, it must be at least 1")
        if self.engine == "ray" and self.together > 1:
            raise ConfigError("together is for --engine local; with ray, give workers")
        if self.engine != "ray" and self.ray != RayConfig():
            raise ConfigError("workers, gpus and address are for --engine ray")


def batch(config: BatchConfig) -> Generator[Outcome, None, None]:
    """Complete every scan of a list; what is complete already is left as it is.

    Yields:
        What became of each scan, as soon as it is known: with several at once not in the order of the list.

    Raises:
        ConfigError: the list or an option is wrong, or there is no such Ray cluster.
        WeightsError: scans that go together have no network.
    """
    jobs = _jobs(config)
    if config.engine == "ray":
        yield from make_scans_on_ray(jobs, config.threads or 1, config.ray)
    elif config.together > 1:
        yield from _make_scans_together(jobs, config.together, config.threads)
    else:
        for job in jobs:
            yield make_scan(job, config.threads, silent=False)


def _make_scans_together(
    jobs: Sequence[RunConfig], together: int, threads: int | None
) -> Iterator[Outcome]:
    if threads is not None:
        torch.set_num_threads(threads)

    def task(job: RunConfig) -> Callable[[StreamPassage], Outcome]:
        # The others would wait for one that waits for another process.
        return lambda passage: make_scan(job, patience=0, passage=passage)

    # All are made with the same network; only sources and folders differ.
    yield from run_together(load_passage(jobs[0], shared=True), map(task, jobs), together)


def _jobs(config: BatchConfig) -> list[RunConfig]:
    """A run for every source; its paths hold on any machine that shares the disk, in any folder."""
    common = replace(
        config.scan,
        model=_found(config.scan.model),
        weights=config.scan.weights and _found(config.scan.weights),
        masks=config.scan.masks and config.scan.masks.absolute(),
    )
    return [
        replace(common, source=source, output=config.output.absolute() / name)
        for name, source in read_list(config.list).items()
    ]


def _found(name: str) -> str:
    """A file's absolute path; any other name as it is."""
    return str(Path(name).absolute()) if Path(name).is_file() else name
