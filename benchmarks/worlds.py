"""Rendered frames a second of the procedural worlds, on one thread: `python benchmarks/worlds.py`."""

from __future__ import annotations

import time

import torch

from mem3r_plugin.training.worlds import sample_sequence

SIZES = ((64, 48), (128, 96), (224, 160), (512, 384))
FRAMES = 8
SEQUENCES = 12


def main() -> None:
    """Time whole sequences, world and photometric noise included, by the processor's clock."""
    torch.set_num_threads(1)
    for size in SIZES:
        sample_sequence(0, 1, size)  # bakes the textures
        started = time.process_time()
        for seed in range(SEQUENCES):
            sample_sequence(seed, FRAMES, size)
        seconds = time.process_time() - started
        print(f"{size[0]}x{size[1]}: {SEQUENCES * FRAMES / seconds:.0f} frames/s")


if __name__ == "__main__":
    main()
