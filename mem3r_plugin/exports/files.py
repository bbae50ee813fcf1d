"""Outputs appear whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mem3r_plugin.errors import OutputError
from mem3r_plugin.files import write_atomically


@contextmanager
def export_errors(output: Path) -> Iterator[None]:
    """Turn what the operating system reports while writing `output` into an `OutputError`."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write {output}: {error.strerror or error}") from error


def write_file(file: Path, content: bytes) -> None:
    """Put `content` at `file`, replacing what was there, and make the folders that lead to it.

    Raises:
        OutputError: it cannot be written; what was there stays.
    """
    with export_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, content)


@contextmanager
def new_folder(output: Path, overwrite: bool, marker: str) -> Iterator[Path]:
    """A temporary folder beside `output` that takes its name when the block ends without an error.

    Args:
        output: Where the folder shall end up.
        overwrite: Replace an earlier export there.
        marker: Path inside an export by which it is recognised; a folder without it holds something
            else and is never replaced.

    Raises:
        OutputError: something is in the way, or an `OSError` stopped the writing.
    """
    output = output.resolve()
    _refuse_to_destroy(output, overwrite, marker)
    with export_errors(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        workplace = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
        fresh, old = workplace / "new", workplace / "old"
        try:
            fresh.mkdir()
            yield fresh
            if output.exists():
                output.rename(old)
            fresh.rename(output)
        finally:
            shutil.rmtree(workplace, ignore_errors=True)


def _refuse_to_destroy(output: Path, overwrite: bool, marker: str) -> None:
    if output.is_file():
        raise OutputError(f"{output} is a file; name a folder")
    if not output.exists() or not any(output.iterdir()):
        return
    if not overwrite:
        raise OutputError(f"{output} is not empty; name another folder or pass --overwrite")
    if not (output / marker).exists():
        raise OutputError(
            f"{output} is not an earlier export (it has no {marker}) and is not overwritten; "
            "name another folder"
        )
