"""Scans on the machines of a Ray cluster: Ray hands them out, and again where a worker dies.

A scan is one task. Ray starts it where its CPUs and GPUs are free; when the process or the machine under
it dies, Ray starts it anew elsewhere, and since it is a run with `resume` it goes on from its last
checkpoint. For that its folder must be on a disk that all machines share, and so must its source.

https://docs.ray.io/en/latest/ray-core/fault_tolerance/tasks.html
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import floor
from types import ModuleType

from mem3r_plugin.batch.work import Outcome, make_scan
from mem3r_plugin.errors import ConfigError
from mem3r_plugin.stream.run import RunConfig

DEATHS = 3
"""How many workers may die of a scan before it is given up: a file may crash whoever decodes it."""

_STORE_BYTES = 100_000_000
"""Ray's object store on this machine; frames do not go through it."""

_ANSWER_SECONDS = 10.0
"""How long a cluster may take to accept a connection."""


@dataclass(frozen=True)
class RayConfig:
    """Where Ray makes scans."""

    workers: int | None = None
    """Scans at once on this machine; by default as many as its cores and GPUs allow."""
    gpus: float | None = None
    """GPUs of a scan, or its share of one such as 0.25; by default one, or what the workers leave each
    other, unless --device is cpu or there are none."""
    address: str | None = None
    """A running Ray cluster, such as auto or 10.0.0.1:6379, which makes as many scans at once as fit; by
    default one is started on this machine."""

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            ConfigError: a value makes no sense.
        """
        if self.workers is not None and self.workers < 1:
            raise ConfigError(f"workers is {self.workers}, it must be at least 1")
        if self.gpus is not None and (self.gpus < 0 or (self.gpus > 1 and self.gpus % 1)):
            raise ConfigError(f"gpus is {self.gpus:g}, it must be a share of one or a whole number")
        if self.workers is not None and self.address is not None:
            raise ConfigError(
                "workers is for a cluster on this machine; the one at the address makes as many scans at "
                "once as its CPUs and GPUs allow, see threads and gpus"
            )


def make_scans_on_ray(
    jobs: Sequence[RunConfig], threads: int, config: RayConfig
) -> Iterator[Outcome]:
    """Complete scans on a Ray cluster, several at once; each is told of when it is done.

    Args:
        jobs: Scans to make, with `resume` and absolute paths.
        threads: CPU threads of a scan, and the CPUs that Ray sets aside for it.
        config: The cluster.

    Raises:
        ConfigError: Ray is not installed or not reached, or no machine has room for a scan.
    """
    ray = _load_ray()
    with _cluster(ray, threads, config):
        gpus = _gpus_of_a_scan(ray, jobs, config)
        _require_room(ray, threads, gpus)
        task = ray.remote(make_scan).options(
            num_cpus=threads, num_gpus=gpus, max_retries=DEATHS, scheduling_strategy="SPREAD"
        )
        pending = {task.remote(job, threads): job for job in jobs}
        while pending:
            (ready,), _ = ray.wait(list(pending), num_returns=1)
            job = pending.pop(ready)
            try:
                yield ray.get(ready)
            except ray.exceptions.RayError as error:
                reason = " ".join(str(error).split()) or type(error).__name__
                yield Outcome(job.output, 0, 0, f"Ray gave it up: {reason}")


def _load_ray() -> ModuleType:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ConfigError('engine ray needs Ray: pip install "mem3r-plugin[ray]"') from error
    return ray


@contextmanager
def _cluster(ray: ModuleType, threads: int, config: RayConfig) -> Iterator[None]:
    """A connection to the cluster; one that was started for it ends with it."""
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        if config.address is not None:
            _require_answer(config.address)
            ray.init(config.address, **quiet)
        else:
            workers = config.workers or max(1, (os.cpu_count() or 1) // threads)
            ray.init(
                "local",
                num_cpus=workers * threads,
                object_store_memory=_STORE_BYTES,
                include_dashboard=False,
                **quiet,
            )
    except (OSError, ValueError) as error:  # a ConnectionError is an OSError
        reason = str(error).splitlines()[0]
        raise ConfigError(f"no Ray cluster at {config.address or 'local'}: {reason}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _require_answer(address: str) -> None:
    """Find out in seconds whether anybody listens: Ray itself tries for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdecimal():
        socket.create_connection((host, int(port)), timeout=_ANSWER_SECONDS).close()


def _gpus_of_a_scan(ray: ModuleType, jobs: Sequence[RunConfig], config: RayConfig) -> float:
    if config.gpus is not None:
        return config.gpus
    count = ray.cluster_resources().get("GPU", 0.0)
    if all(job.device == "cpu" for job in jobs):
        return 0.0
    share = min(1.0, count / (config.workers or 1))
    return floor(share * 1e4) / 1e4  # Ray counts in ten-thousandths


def _require_room(ray: ModuleType, threads: int, gpus: float) -> None:
    """Refuse what Ray would wait for without end.

    Raises:
        ConfigError: no machine of the cluster can take a scan.
    """
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(m.get("CPU", 0) >= threads and m.get("GPU", 0) >= gpus for m in machines):
        raise ConfigError(
            f"no machine of the Ray cluster has {threads} CPUs and {gpus:g} GPUs: lower threads or gpus"
        )
