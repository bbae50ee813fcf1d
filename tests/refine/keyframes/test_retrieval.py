"""Places are found again by features of the network and by local ones."""

from dataclasses import replace

import cv2
import numpy as np
import pycolmap
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.refine.keyframes.matching import MatchingConfig, extract_features
from mem3r_plugin.refine.keyframes.pairs import choose_pairs, sequential_pairs
from mem3r_plugin.refine.keyframes.retrieval import network_similarity, picture_similarity
from tests.room_scan import make_room_scan

LAP = 24
FRAMES = 2 * LAP


def place_feature(place):
    """A feature that changes smoothly on the way around a loop, with noise of its own."""
    angle = 2 * np.pi * place / LAP
    waves = [wave(k * angle) for k in range(1, 5) for wave in (np.cos, np.sin)]
    noise = np.random.default_rng(place).normal(scale=0.2, size=8)
    feature = 3 + np.array(waves) + noise
    return (feature / np.linalg.norm(feature)).astype(np.float32)


def loop_scan(directory, place_of, frames=FRAMES):
    def with_feature(estimate):
        return replace(estimate, feature=place_feature(place_of(estimate.frame.index)))

    return make_room_scan(
        directory, frames=frames, size=(48, 36), network_size=32, edit=with_feature
    )


@pytest.fixture(scope="module")
def twice_around(tmp_path_factory):
    return loop_scan(tmp_path_factory.mktemp("loop"), lambda i: i % LAP)


def test_the_second_lap_looks_like_the_first(twice_around):
    alike = network_similarity(twice_around, list(range(FRAMES)))
    assert alike is not None
    assert alike.shape == (FRAMES, FRAMES)
    np.testing.assert_allclose(alike, alike.T, atol=1e-12)
    assert np.abs(alike).max() <= 1 + 1e-9
    found = alike[:LAP, LAP:].argmax(axis=1)
    assert (np.abs(found - np.arange(LAP)) <= 1).mean() > 0.9


def test_the_way_back_looks_like_the_way_there(tmp_path):
    scan = loop_scan(tmp_path, lambda i: i if i < LAP else 2 * LAP - 1 - i)
    alike = network_similarity(scan, list(range(FRAMES)))
    assert alike is not None
    found = FRAMES - 1 - (alike[3 : LAP - 3, LAP:].argmax(axis=1) + LAP)
    assert (np.abs(found - np.arange(3, LAP - 3)) <= 1).mean() > 0.9


def test_a_scan_without_features_has_no_similarity(tmp_path):
    assert network_similarity(make_room_scan(tmp_path, frames=3), [0, 1, 2]) is None


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """SIFT features of pictures of which only the first and the last show the same thing."""
    pycolmap.logging.minloglevel = 2
    folder = tmp_path_factory.mktemp("pictures")
    names = [f"{i:06d}.png" for i in range(FRAMES)]
    for i, name in enumerate(names):
        noise = np.random.default_rng(i % (FRAMES - 1)).integers(0, 255, (12, 16), np.uint8)
        cv2.imwrite(
            str(folder / name), cv2.resize(noise, (160, 120), interpolation=cv2.INTER_CUBIC)
        )
    database = folder / "database.db"
    extract_features(database, folder, names, Intrinsics.centred(160, 160, 120), False, 512)
    return database, names


def test_local_features_find_the_same_picture_again(database):
    alike = picture_similarity(*database)
    assert alike.shape == (FRAMES, FRAMES)
    others = alike - 2 * np.eye(FRAMES)
    assert others[0].argmax() == FRAMES - 1
    assert others[FRAMES - 1].argmax() == 0


def test_pairs_come_from_order_network_and_local_features(twice_around, database):
    config = MatchingConfig(overlapping=2, loops=1)
    file, names = database
    pairs, suggested = choose_pairs(twice_around, file, names, config)
    assert pairs == sequential_pairs(FRAMES, config.sequential)
    assert not pairs & suggested
    assert (0, FRAMES - 1) in suggested
    laps = [(i, i + LAP) for i in range(LAP)]
    near = {(i, j + d) for i, j in laps for d in (-1, 0, 1)}
    assert len(near & suggested) > LAP / 2


@given(st.integers(2, MatchingConfig.exhaustive_below - 1))
def test_few_keyframes_are_all_matched(twice_around, database, count):
    """Those that do not follow each other count as loops, of which more is asked."""
    config = MatchingConfig()
    pairs, suggested = choose_pairs(twice_around, database[0], database[1][:count], config)
    assert pairs == sequential_pairs(count, config.sequential)
    assert not pairs & suggested
    assert len(pairs | suggested) == count * (count - 1) / 2
