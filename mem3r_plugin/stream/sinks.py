"""Sinks by name."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

from mem3r_plugin.errors import ConfigError
from mem3r_plugin.stream.sink import Sink

GROUP = "mem3r_plugin.sinks"
"""Entry-point group in which sinks are registered; each entry names a callable that makes a sink, given
the folder of the scan that the run writes. The scan gets every frame before the sink does."""


def load_sink(name: str, scan: Path) -> Sink:
    """The sink registered under `name`, for a run that writes the scan in folder `scan`.

    Raises:
        ConfigError: no such sink is installed, or it cannot be imported.
    """
    entries = entry_points(group=GROUP)
    if name not in entries.names:
        raise ConfigError(
            f"unknown sink '{name}'; installed are: {', '.join(sorted(entries.names))}"
        )
    entry = entries[name]
    try:
        make = entry.load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"sink '{name}' ({entry.value}) cannot be loaded: {error}; install what it needs, such as "
            'pip install "mem3r-plugin[open3d]" for tsdf'
        ) from error
    sink: Sink = make(scan)
    return sink
