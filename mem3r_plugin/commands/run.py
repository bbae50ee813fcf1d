"""`mem3r run`: a source through the front end into a scan."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import tyro

from mem3r_plugin.commands.options import parse_options
from mem3r_plugin.configuration import load_preset
from mem3r_plugin.memory_allocator import keep_freed_memory
from mem3r_plugin.stream.run import RunConfig, run


@dataclass(frozen=True)
class Run(RunConfig):
    """Reconstruct a video, an image folder or a camera: poses and depth, frame by frame.

    A run that was stopped or killed leaves a valid scan; the same command with --resume goes on.
    """

    config: str | None = None
    """A preset for the other options, or a YAML file of your own; options given here win over it."""

    def __call__(self) -> None:
        """Run and report."""
        if not self.sink:  # fusion gives memory back to stay within its limit
            keep_freed_memory()
        scan = run(self)
        print(f"{self.output}: {len(scan)} frames")


def parse(arguments: Sequence[str]) -> Run:
    """Read the options of `mem3r run`, those of a preset first.

    Raises:
        ConfigError: there is no such preset, or it is wrong.
    """
    presets = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    presets.add_argument("--config")
    name = presets.parse_known_args(arguments)[0].config
    options = RunConfig(source=tyro.MISSING, output=tyro.MISSING)
    if name is not None:
        options = load_preset("stream", name, options)
    return parse_options(Run, "run", arguments, default=Run(**vars(options), config=name))
