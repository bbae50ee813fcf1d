"""The list of a batch: which sources there are, and what their scans are called.

    # a comment
    walk.mp4
    kitchen/rgb
    office/*.jpg

A line is a source as `mem3r run` takes it, except cameras: a video file, an image folder or a glob.
Relative paths count from the folder of the list.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from mem3r_plugin.errors import ConfigError


def read_list(path: Path) -> dict[str, str]:
    """The name of every scan and its source, an absolute path or glob, in the order of the list.

    A scan is called after its file or folder; where several would be called the same, after as much of
    the path as tells them apart. The order of the list has no influence.

    Raises:
        ConfigError: the list cannot be read, is empty, or names a source twice.
    """
    sources = _read_sources(path)
    taken = Counter(name for source in sources for name in set(_possible_names(source)))
    return {
        next(name for name in _possible_names(source) if taken[name] == 1): source
        for source in sources
    }


def _read_sources(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not a text file with a source a line; `mem3r run` takes a single source"
        ) from error
    numbers: dict[str, int] = {}
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line or line.startswith("#"):
            continue
        source = os.path.abspath(path.parent / Path(line).expanduser())  # noqa: PTH100 - without ".."
        if source in numbers:
            raise ConfigError(
                f"{path}, line {number}: {line} is there already, in line {numbers[source]}"
            )
        numbers[source] = number
    if not numbers:
        raise ConfigError(f"{path} names no source; it should have one a line")
    return list(numbers)


def _possible_names(source: str) -> Iterator[str]:
    """Names for a source's scan, from short to long: walk, walk.mp4, monday_walk, monday_walk.mp4, ...

    The last one is no other source's.
    """
    path = Path(source)
    while any(sign in str(path) for sign in "*?["):
        path = path.parent
    folders = path.parts[1:-1]
    for count in range(len(folders) + 1):
        for name in (path.stem, path.name):
            yield "_".join((*folders[len(folders) - count :], name))
    yield f"{path.stem}_{sha256(source.encode()).hexdigest()[:12]}"
