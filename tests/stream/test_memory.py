"""Memory does not grow with the number of frames."""

import gc

import psutil
import pytest

from mem3r_plugin.stream.run import run
from tests.stream.small_model import pictures


class MemoryMeter:
    """A sink that notes this process's memory after some frames."""

    def __init__(self, frames: tuple[int, ...]) -> None:
        self.frames = frames
        self.resident: list[int] = []

    def open(self) -> None:
        pass

    def write(self, estimate) -> None:
        if estimate.frame.index + 1 in self.frames:
            gc.collect()
            self.resident.append(psutil.Process().memory_info().rss)

    def close(self, complete: bool) -> None:
        pass


@pytest.mark.parametrize(
    ("warm", "last"), [(100, 300), pytest.param(300, 2000, marks=pytest.mark.slow)]
)
def test_memory_stays_within_two_percent(small_model, tmp_path, warm, last):
    meter = MemoryMeter((warm, last))
    config = small_model.config("generator", tmp_path / "scan", reset_interval=100)
    scan = run(config, source=pictures(last), sinks=[meter], silent=True)
    assert len(scan) == last
    before, after = meter.resident
    assert after <= 1.02 * before, f"{before / 1e6:.1f} MB grew to {after / 1e6:.1f} MB"
