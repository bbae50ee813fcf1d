"""Debian packages, fetched and unpacked without installing them: free pictures and models for the worlds."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from mem3r_plugin.errors import SourceError

LICENCES = "LICENCES.txt"
"""The file of a folder of fetched things that names the package and the source of each."""


def unpacked(package: str, workplace: Path, instead: str) -> Path:
    """The files of a Debian package, which apt-get verifies; nothing is installed.

    Args:
        package: its name.
        workplace: an empty folder for the package and its files.
        instead: what to do where apt-get is missing, for the error's text.

    Raises:
        SourceError: apt-get is missing, or the package cannot be had.
    """
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise SourceError(
            f"apt-get and dpkg-deb are needed to fetch {package} and are not here; {instead}"
        )
    content = workplace / "content"
    content.mkdir()
    _run(["apt-get", "-q", "download", package], workplace, f"package {package} cannot be had")
    for archive in workplace.glob("*.deb"):
        _run(["dpkg-deb", "-x", str(archive), str(content)], workplace, f"{archive.name} is broken")
    return content


def licence(package: str, content: Path) -> str:
    """The copyright file of an unpacked package.

    Raises:
        SourceError: it has none.
    """
    copyright_file = content / "usr/share/doc" / package / "copyright"
    if not copyright_file.is_file():
        raise SourceError(f"package {package} names no licence, so nothing of it is used")
    return copyright_file.read_text(encoding="utf-8", errors="replace")


def _run(command: list[str], folder: Path, trouble: str) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        complaint = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise SourceError(f"{trouble}: {complaint} (does `apt-get update` help?)")
