"""`mem3r textures`: photographs for the training worlds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from mem3r_plugin.commands.options import parse_options
from mem3r_plugin.progress import ProgressBars
from mem3r_plugin.training.worlds.packages import LICENCES
from mem3r_plugin.training.worlds.photographs import PACKAGES, fetch_textures


@dataclass(frozen=True)
class Textures:
    """Fetch free photographs from Debian packages, cut to textures for training (needs apt-get).

    Nothing is installed and no root is needed. Name the folder as `data.textures` of a training recipe;
    a folder of pictures of your own serves as well.
    """

    folder: tyro.conf.Positional[Path]
    """Where the textures go; LICENCES.txt in it names the source and the licence of each."""
    packages: tuple[str, ...] = PACKAGES
    """Debian packages to take them from."""
    count: int = 200
    """At most how many; each takes 1.3 MB of memory in every process that renders."""
    overwrite: bool = False
    """Replace an earlier folder of textures."""

    def __call__(self) -> None:
        """Fetch and report."""
        with ProgressBars() as progress:
            count = fetch_textures(self.folder, self.packages, self.count, self.overwrite, progress)
        print(f"{self.folder}: {count} textures; their licences are in {LICENCES}")


def parse(arguments: Sequence[str]) -> Textures:
    """Read the options of `mem3r textures`."""
    return parse_options(Textures, "textures", arguments)
