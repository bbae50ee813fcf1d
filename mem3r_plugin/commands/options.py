"""How the options of every subcommand are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import tyro

Command = TypeVar("Command")


def parse_options(
    command: type[Command], name: str, arguments: Sequence[str], default: Command | None = None
) -> Command:
    """Fill a command dataclass from the words after `mem3r NAME`; `default` gives other defaults.

    A mistake in the options, and `--help`, end the program as they do everywhere.
    """
    return tyro.cli(
        command,
        prog=f"mem3r {name}",
        args=arguments,
        default=tyro.MISSING_NONPROP if default is None else default,
        config=(
            tyro.conf.OmitArgPrefixes,
            tyro.conf.PositionalMetavarFromFieldName,
            tyro.conf.FlagCreatePairsOff,
            tyro.conf.DisallowNone,
        ),
    )
