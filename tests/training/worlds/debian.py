"""Real Debian packages made on the spot, and an `apt-get download` that hands them out."""

from __future__ import annotations

from pathlib import Path

import pytest


def packaged(root: Path, name: str) -> Path:
    """The beginnings of a package under `root`: what dpkg-deb asks for, and a copyright file."""
    doc = root / "usr/share/doc" / name
    for folder in (root / "DEBIAN", doc):
        folder.mkdir(parents=True)
    (root / "DEBIAN/control").write_text(
        f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: me <me@here>\nDescription: d\n"
    )
    (doc / "copyright").write_text("CC0, by nobody\n")
    return root


def serve(root: Path, name: str, tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts an `apt-get` first on the PATH that builds this package when asked for it, and knows no other."""
    tools.mkdir()
    script = tools / "apt-get"
    script.write_text(
        f'#!/bin/sh\n[ "$3" = {name} ] || {{ echo "E: Unable to locate package $3" >&2; exit 100; }}\n'
        f'exec dpkg-deb -b "{root}" {name}_1_all.deb\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tools), prepend=":")
