import dataclasses

import numpy as np
import pytest

from mem3r_plugin.errors import ScanError
from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.refine.mapping.map_store import load_maps, save_maps
from mem3r_plugin.refine.mapping.structure import SparseMap
from mem3r_plugin.refine.undistort import Undistortion
from tests.refine.random_poses import random_poses

CAMERA = Intrinsics.centred(500.0, 640, 480)


def piece(seed, undistortion=None):
    rng = np.random.default_rng(seed)
    poses = dict(zip((3, 7, 8), random_poses(3, seed), strict=True))
    sightings = {
        frame: (rng.permutation(20)[: 5 + frame], rng.uniform(0, 400, (5 + frame, 2)))
        for frame in poses
    }
    return SparseMap(
        camera=CAMERA,
        poses=poses,
        points=rng.normal(size=(20, 3)),
        sightings=sightings,
        reprojection_error=0.4,
        track_length=3.5,
        way="predicted",
        undistortion=undistortion,
        prior_deviation=0.25,
    )


def same(first, second):
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, tuple):
        return all(same(*pair) for pair in zip(first, second, strict=True))
    return np.array_equal(first, second)


def test_a_file_keeps_every_field_of_every_piece(tmp_path):
    maps = [piece(0, Undistortion.without_blanks(CAMERA, -0.1)), piece(1)]
    save_maps(maps, tmp_path / "maps.npz")
    loaded = load_maps(tmp_path / "maps.npz")
    assert len(loaded) == 2
    for before, after in zip(maps, loaded, strict=True):
        for field in dataclasses.fields(SparseMap):
            assert same(getattr(before, field.name), getattr(after, field.name)), field.name


def test_no_piece_at_all_is_kept_too(tmp_path):
    save_maps([], tmp_path / "maps.npz")
    assert load_maps(tmp_path / "maps.npz") == []


def test_a_torn_file_is_named(tmp_path):
    file = tmp_path / "maps.npz"
    save_maps([piece(0)], file)
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(ScanError, match=r"maps\.npz is damaged"):
        load_maps(file)
