"""Made-up estimates with every corner of the value range, to be written to scans."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mem3r_plugin.geometry import ImageTransform, Intrinsics
from mem3r_plugin.scan import ScanSink
from mem3r_plugin.scan.format import ScanHeader
from mem3r_plugin.stream.estimate import Frame, FrameEstimate

ORIGINAL = (100, 66)
FEATURE_CHANNELS = 12
TRANSFORM = ImageTransform.identity(ORIGINAL).resized(64, 42).cropped(0, 5, 64, 32)


def header(**changes: object) -> ScanHeader:
    values: dict[str, object] = {
        "model": {"name": "tiny", "weights_sha256": "0" * 64},
        "settings": {"update": "ttt3r", "size": 64},
        "source": {"kind": "arrays"},
        "camera_origin": "estimated",
    }
    return ScanHeader(**(values | changes))  # type: ignore[arg-type]


def make_estimates(count: int, seed: int = 0, path: Path | None = None) -> Iterator[FrameEstimate]:
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        width, height = TRANSFORM.target_size
        depth = rng.gamma(3.0, 1.0, (height, width)).astype(np.float32)
        confidence = (1 + rng.gamma(1.0, 3.0, (height, width))).astype(np.float32)
        nothing = rng.random((height, width)) < 0.1
        depth[nothing], confidence[nothing] = 0, 1
        pose = np.eye(4)
        pose[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        pose[:3, 3] = rng.normal(size=3)
        image = rng.integers(0, 256, (*ORIGINAL[::-1], 3), dtype=np.uint8)
        yield FrameEstimate(
            frame=Frame(index, f"frame_{index:06d}.png", index / 3, image, path, 2 * index),
            camera_to_world=pose,
            depth=depth,
            confidence=confidence,
            intrinsics=TRANSFORM.intrinsics(Intrinsics.centred(90.0 + index / 7, *ORIGINAL)),
            transform=TRANSFORM,
            focal=float(rng.uniform(40, 80)),
            feature=rng.dirichlet(np.ones(FEATURE_CHANNELS)).astype(np.float32),
        )


def write_scan(path: Path, count: int = 5, complete: bool = True) -> ScanSink:
    sink = ScanSink(path, header(), copy_images=True)
    sink.open()
    for estimate in make_estimates(count):
        sink.write(estimate)
    sink.close(complete)
    return sink
