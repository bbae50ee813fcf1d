"""What the pictures that pycolmap reads are called."""

from __future__ import annotations

from pathlib import Path


def picture_name(frame: int) -> str:
    """File name of the picture of a frame, by its index in the scan."""
    return f"{frame:06d}.png"


def frame_of(name: str) -> int:
    """The inverse of `picture_name`."""
    return int(Path(name).stem)
