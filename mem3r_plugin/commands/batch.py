"""`mem3r batch`: many scans from a list of sources, on this machine or on a Ray cluster."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass

import tyro

from mem3r_plugin.batch import BatchConfig, ScanOptions, batch, read_list
from mem3r_plugin.batch.progress import BatchProgress
from mem3r_plugin.commands.options import parse_options
from mem3r_plugin.configuration import load_preset
from mem3r_plugin.errors import Mem3RError


@dataclass(frozen=True)
class Batch(BatchConfig):
    """Reconstruct every source of a list, with the options of `mem3r run`.

    A scan that fails does not stop the others. Whatever stopped a batch, the same command again completes
    what is missing.
    """

    config: str | None = None
    """A preset for the options of a run, or a YAML file of your own; options given here win over it."""

    def __call__(self) -> None:
        """Make the scans and report.

        Raises:
            Mem3RError: some could not be made.
        """
        total = len(read_list(self.list))
        failed = 0
        several_at_once = self.engine == "ray" or self.together > 1
        # Ray prints to stdout when a worker dies.
        with BatchProgress(total, several_at_once) as progress, redirect_stdout(sys.stderr):
            for outcome in batch(self):
                progress.tell(outcome)
                failed += outcome.failure is not None
        print(f"{self.output}: {total - failed} of {total} scans complete")
        if failed:
            raise Mem3RError(
                f"{failed} of {total} scans failed, for the reasons above; the same command again goes on "
                "with them"
            )


def parse(arguments: Sequence[str]) -> Batch:
    """Read the options of `mem3r batch`, those of a preset first.

    Raises:
        ConfigError: there is no such preset, or it is wrong.
    """
    presets = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    presets.add_argument("--config")
    name = presets.parse_known_args(arguments)[0].config
    scan = ScanOptions() if name is None else load_preset("stream", name, ScanOptions())
    default = Batch(list=tyro.MISSING, output=tyro.MISSING, scan=scan, config=name)
    return parse_options(Batch, "batch", arguments, default=default)
