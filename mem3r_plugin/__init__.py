"""Mem3R, a streaming 3-D reconstruction network, as a pose-and-depth front end.

    from mem3r_plugin import FrontEnd

    front_end = FrontEnd.from_pretrained("mem3r-tiny", update="ttt3r")
    for estimate in front_end.stream("walk.mp4"):
        print(estimate.frame.name, estimate.camera_to_world, estimate.depth.shape)

The names below are the public surface; they are imported on first use, so that `import mem3r_plugin`
costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mem3r_plugin.errors import Mem3RError
    from mem3r_plugin.geometry import ImageTransform, Intrinsics
    from mem3r_plugin.model.weights import load_network
    from mem3r_plugin.scan import Scan
    from mem3r_plugin.stream.estimate import Frame, FrameEstimate
    from mem3r_plugin.stream.front_end import FrontEnd
    from mem3r_plugin.stream.run import RunConfig, run
    from mem3r_plugin.stream.sink import Sink
    from mem3r_plugin.stream.source import open_source

_HOMES = {
    "Frame": "mem3r_plugin.stream.estimate",
    "FrameEstimate": "mem3r_plugin.stream.estimate",
    "FrontEnd": "mem3r_plugin.stream.front_end",
    "ImageTransform": "mem3r_plugin.geometry",
    "Intrinsics": "mem3r_plugin.geometry",
    "Mem3RError": "mem3r_plugin.errors",
    "RunConfig": "mem3r_plugin.stream.run",
    "Scan": "mem3r_plugin.scan",
    "Sink": "mem3r_plugin.stream.sink",
    "load_network": "mem3r_plugin.model.weights",
    "open_source": "mem3r_plugin.stream.source",
    "run": "mem3r_plugin.stream.run",
}

__all__ = [
    "Frame",
    "FrameEstimate",
    "FrontEnd",
    "ImageTransform",
    "Intrinsics",
    "Mem3RError",
    "RunConfig",
    "Scan",
    "Sink",
    "load_network",
    "open_source",
    "run",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
