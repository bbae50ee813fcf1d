"""Frames a second of the procedural worlds, on one thread: `python benchmarks/worlds.py [TEXTURES [THINGS]]`.

TEXTURES is a folder that `mem3r textures` made, THINGS one that `mem3r things` made.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import torch

from mem3r_plugin.training.worlds import CameraEffects, Handling, WorldConfig, sample_sequence

SIZES = ((64, 48), (128, 96), (224, 160), (512, 384))
FRAMES = 8
SEQUENCES = 12
STRIDE = 4
HANDLING = Handling(shake=1.0, hesitation=0.5, sideways=0.4, closeups=0.25, photos=0.2)
EFFECTS = CameraEffects(motion_blur=0.8, rolling_shutter=0.6, auto_exposure=0.7, jpeg=0.5)


def main() -> None:
    """Time whole sequences, world and photometric noise included, by the processor's clock."""
    torch.set_num_threads(1)
    for size in SIZES:
        print(f"{size[0]}x{size[1]}: {frames_a_second(size):.0f} frames/s")
    extras: dict[str, dict[str, Any]] = {
        "handling": {"handling": HANDLING},
        "effects": {"effects": EFFECTS},
    }
    if len(sys.argv) > 1:
        extras["photographs"] = {"config": WorldConfig(textures=Path(sys.argv[1]))}
    if len(sys.argv) > 2:
        extras["things"] = {
            "config": WorldConfig(
                textures=Path(sys.argv[1]), things=Path(sys.argv[2]), thing_share=1.0
            )
        }
    extras["all of these"] = {key: value for each in extras.values() for key, value in each.items()}
    plain = frames_a_second((128, 96), stride=STRIDE)
    print(f"128x96, stride {STRIDE}: {plain:.0f} frames/s")
    for name, options in extras.items():
        rate = frames_a_second((128, 96), stride=STRIDE, **options)
        print(f"128x96, stride {STRIDE}, with {name}: {rate:.0f} frames/s")


def frames_a_second(size: tuple[int, int], **options: Any) -> float:
    """Frames a second of processor time over some sequences."""
    sample_sequence(0, 1, size, **options)  # bakes the textures
    started = time.process_time()
    for seed in range(SEQUENCES):
        sample_sequence(seed, FRAMES, size, **options)
    return SEQUENCES * FRAMES / (time.process_time() - started)


if __name__ == "__main__":
    main()
