"""Writing files so that a crash leaves the old content or the new, never half of it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mem3r_plugin.errors import OutputError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def write_atomically(path: Path, content: bytes, durable: bool = False) -> None:
    """Put `content` at `path` by way of a temporary neighbour and a rename.

    Args:
        path: Where it goes; an existing file is replaced.
        content: The whole file.
        durable: Also wait until it survives a power cut.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, survives a power cut."""
    if path.is_dir() and os.name != "posix":
        return  # only POSIX lets a folder be opened
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def output_errors(folder: Path) -> Iterator[None]:
    """Turn what the operating system reports while writing below `folder` into an `OutputError`."""
    try:
        yield
    except OSError as error:
        place = error.filename or folder
        if error.errno in _FULL:
            message = (
                f"the disk is full, cannot write {place}; the frames already in {folder} are kept: "
                "make room and continue with --resume"
            )
        else:
            message = f"cannot write {place}: {error.strerror or error}"
        raise OutputError(message) from error
