"""What there is to see on roads: lines, strips beside the lanes, mended patches, and shadows."""

from __future__ import annotations

import numpy as np

from mem3r_plugin.training.worlds.builder import UP, Array, Builder, stretch

_STRIP, _PATCH, _SHADOW, _LINE = 0.002, 0.003, 0.004, 0.006
"""Heights in metres above the road; what is higher covers what is lower."""


def markings(builder: Builder, start: Array, end: Array, road: float) -> None:
    """What lies on a straight road of width `road`, along its middle from `start` to `end`, (2,) each."""
    rng = builder.rng
    along, left, length = stretch(start, end)
    foot = np.array([*start, 0.0])

    def lay(at: float, aside: float, size: tuple[float, float], height: float, *names: str) -> None:
        place = foot + along * at + left * aside + UP * height
        bright = (0.75, 1.0) if height == _LINE else (0.1, 0.6)
        builder.flat(place, along, left, size, builder.material(*names, bright=bright))

    if rng.random() < 0.6:
        dash, gap, wide = rng.uniform((1.5, 1.5, 0.1), (6.0, 9.0, 0.2))
        for at in np.arange(dash / 2, length, dash + gap):
            lay(at, 0.0, (dash, wide), _LINE, "plain")
    if rng.random() < 0.5:
        aside, wide = road / 2 - rng.uniform(0.2, 2.2), rng.uniform(0.1, 0.2)
        for side in (-1, 1):
            lay(length / 2, side * aside, (length, wide), _LINE, "plain")
    for side in (-1, 1):
        if rng.random() < 0.5:
            wide = float(rng.uniform(0.5, 2.0))
            aside = side * (road - wide) / 2
            lay(length / 2, aside, (length, wide), _STRIP, "asphalt", "tiles", "foliage")
    for height, every in ((_PATCH, 15.0), (_SHADOW, 20.0)):
        for _ in range(int(rng.poisson(length / every))):
            at, aside = rng.uniform(0, length), rng.uniform(-0.5, 0.5) * road
            size = (float(rng.uniform(0.6, 6.0)), float(rng.uniform(0.4, 3.0)))
            lay(at, aside, size, height, "asphalt", "plain")
