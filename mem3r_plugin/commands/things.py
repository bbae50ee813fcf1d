"""`mem3r things`: models of furniture, cars, trees and people for the training worlds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from mem3r_plugin.commands.options import parse_options
from mem3r_plugin.progress import ProgressBars
from mem3r_plugin.training.worlds.catalogue import PACKAGE, fetch_things
from mem3r_plugin.training.worlds.packages import LICENCES


@dataclass(frozen=True)
class Things:
    """Fetch free models of things for the training worlds from a Debian package (needs apt-get and Open3D).

    Nothing is installed and no root is needed. Name the folder as `data.things` of a training recipe.
    """

    folder: tyro.conf.Positional[Path]
    """Where the models go, 325 MB; LICENCES.txt in it names the author of each and their licences."""
    package: str = PACKAGE
    """Debian package with furniture libraries of Sweet Home 3D."""
    overwrite: bool = False
    """Replace an earlier folder of things."""

    def __call__(self) -> None:
        """Fetch, convert and report."""
        with ProgressBars() as progress:
            count = fetch_things(self.folder, self.package, self.overwrite, progress)
        print(f"{self.folder}: {count} things; their licences are in {LICENCES}")


def parse(arguments: Sequence[str]) -> Things:
    """Read the options of `mem3r things`."""
    return parse_options(Things, "things", arguments)
