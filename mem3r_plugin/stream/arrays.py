"""Arrays of one's own program as a source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mem3r_plugin.errors import SourceError
from mem3r_plugin.stream.estimate import Frame
from mem3r_plugin.stream.source import Selection, Source


class ArraySource(Source):
    """Any Python iterable of pictures; a generator works, but only once.

    A picture is RGB (height, width, 3) or grey (height, width), uint8 or floating point in [0, 1].
    """

    kind = "arrays"

    def __init__(self, arrays: Iterable[NDArray[Any]], selection: Selection) -> None:
        selection.require_no_clock("an iterable of arrays")
        super().__init__(selection)
        self._arrays = arrays

    def describe(self) -> dict[str, Any]:
        """Only the kind: arrays cannot be found again."""
        return {"kind": self.kind}

    @property
    def expected_frames(self) -> int | None:
        """Known for a sequence of arrays, not for a generator."""
        if not isinstance(self._arrays, Sized):
            return self.selection.max_frames
        selected = -(-len(self._arrays) // self.selection.stride)
        return min(selected, self.selection.max_frames or selected)

    @property
    def restartable(self) -> bool:
        """Whether the iterable is a container, not a generator that is used up."""
        return iter(self._arrays) is not self._arrays

    def _candidates(self) -> Iterator[Frame]:
        every = islice(enumerate(self._arrays), 0, None, self.selection.stride)
        for position, array in every:
            name = f"frame_{position:06d}.png"
            yield Frame(0, name, float(position), to_rgb8(array, name), None, position)


def to_rgb8(array: NDArray[Any], name: str = "the image") -> NDArray[np.uint8]:
    """A picture as uint8 RGB, shape (height, width, 3).

    Args:
        array: RGB (height, width, 3) or grey (height, width), uint8 or floating point in [0, 1].
        name: what to call it in a message.

    Raises:
        SourceError: it is of another shape or type, or its floats leave [0, 1].
    """
    array = np.asarray(array)
    if array.ndim == 2:
        array = np.repeat(array[..., None], 3, axis=-1)
    if array.ndim != 3 or array.shape[-1] != 3 or array.size == 0:
        raise SourceError(f"{name} has shape {array.shape}: expected (height, width, 3)")
    if array.dtype == np.uint8:
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise SourceError(f"{name} is of type {array.dtype}: expected uint8, or floats in [0, 1]")
    if not (array.min() >= 0.0 and array.max() <= 1.0):
        raise SourceError(f"{name} has values outside [0, 1]: divide by 255, or convert to uint8")
    return np.rint(array * 255.0).astype(np.uint8)
