from pathlib import Path

import numpy as np
from PIL import Image

from mem3r_plugin.pictures.drift import drift_curves

ORANGE = np.array([255, 127, 14])
"""matplotlib's second colour, that of the second contestant."""


def rows(ates: list[float | None], frames: tuple[int, ...] = (50, 100)) -> list[dict[str, object]]:
    return [
        {"frames": length, "ate": ate, "ate_spread": 0.1}
        for length, ate in zip(frames, ates, strict=True)
    ]


def share(path: Path, colour: np.ndarray) -> float:
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    return float((np.abs(pixels - colour).max(axis=-1) < 4).mean())


def test_every_long_group_has_a_panel_and_every_contestant_a_curve(tmp_path: Path) -> None:
    long, short = rows([1.0, 2.0]), rows([1.0, 2.0], (11, 30))
    still = {"room": long, "worlds": long, "photos": short}
    summary = {"still": still, "a": {"room": long}, "b": {"room": rows([0.5, 0.7])}}
    drift_curves(summary, "still", "worlds", tmp_path / "b.png")
    drift_curves({**summary, "b": {}}, "still", "worlds", tmp_path / "none.png")
    failed = {**summary, "b": {"room": rows([None, None])}}
    drift_curves(failed, "still", "worlds", tmp_path / "failed.png")
    assert share(tmp_path / "b.png", ORANGE) > share(tmp_path / "failed.png", ORANGE)
    with Image.open(tmp_path / "b.png") as two, Image.open(tmp_path / "none.png") as same:
        assert two.size == same.size
    only = {"still": {"worlds": long}}
    drift_curves(only, "still", "worlds", tmp_path / "one.png")
    with Image.open(tmp_path / "b.png") as two, Image.open(tmp_path / "one.png") as one:
        assert two.width == 2 * one.width
