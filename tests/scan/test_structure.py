from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem3r_plugin.errors import ScanError
from mem3r_plugin.scan import Scan
from mem3r_plugin.scan.format import STRUCTURE
from mem3r_plugin.scan.structure import Structure
from tests.room_scan import make_room_scan


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Scan:
    return make_room_scan(tmp_path_factory.mktemp("room"))


def some_structure(seed: int, points: int, sightings: int) -> Structure:
    rng = np.random.default_rng(seed)
    return Structure(
        rng.normal(size=(points, 3)),
        np.sort(rng.integers(0, 6, sightings)),
        rng.integers(0, max(points, 1), sightings if points else 0),
        rng.uniform(0, 200, (sightings, 2)),
    )


def test_other_scans_have_none(tmp_path: Path) -> None:
    assert make_room_scan(tmp_path).structure() is None


@given(seed=st.integers(0, 99), points=st.integers(1, 50), sightings=st.integers(0, 200))
def test_what_is_written_is_read(room: Scan, seed: int, points: int, sightings: int) -> None:
    written = some_structure(seed, points, sightings)
    written.save(room.path)
    read = room.structure()
    assert read is not None
    assert np.array_equal(read.points, written.points)
    assert np.array_equal(read.frames, written.frames)
    assert np.array_equal(read.rows, written.rows)
    np.testing.assert_allclose(read.pixels, written.pixels, atol=1e-5)
    assert {value.dtype for value in (read.frames, read.rows)} == {np.dtype(np.int64)}


def test_two_writers_write_the_same_bytes(room: Scan) -> None:
    some_structure(1, 5, 9).save(room.path)
    first = (room.path / STRUCTURE).read_bytes()
    some_structure(1, 5, 9).save(room.path)
    assert (room.path / STRUCTURE).read_bytes() == first


@pytest.mark.parametrize("bad", ["torn", "rows", "order", "shape", "missing"])
def test_damage_is_named(bad: str, tmp_path: Path) -> None:
    scan = make_room_scan(tmp_path)
    good = some_structure(0, 5, 9)
    rows = good.rows + (5 if bad == "rows" else 0)
    frames = good.frames[::-1] if bad == "order" else good.frames
    pixels = good.pixels[1:] if bad == "shape" else good.pixels
    Structure(good.points, frames, rows, pixels).save(scan.path)
    file = scan.path / STRUCTURE
    if bad == "torn":
        file.write_bytes(file.read_bytes()[:200])
    if bad == "missing":
        np.savez(file, points=good.points)
    with pytest.raises(ScanError, match=r"structure\.npz is damaged .*refine the scan again"):
        scan.structure()
