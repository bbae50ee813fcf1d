"""What the operating system says while a scan is written, in words for the user."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mem3r_plugin.errors import OutputError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


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
                "make room and go on (`mem3r run` with --resume, `mem3r refine` as before)"
            )
        else:
            message = f"cannot write {place}: {error.strerror or error}"
        raise OutputError(message) from error
