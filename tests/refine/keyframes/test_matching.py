import cv2
import numpy as np
import pycolmap
import pytest

from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.refine.keyframes.matching import extract_features, match_pairs, reject_weak_pairs
from mem3r_plugin.refine.keyframes.pairs import all_pairs

CAMERA = Intrinsics.centred(230.0, 240, 180)
NAMES = [f"{index:06d}.png" for index in range(6)]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A textured wall seen ever farther to the right; the last picture shows another one."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    walls = [rng.integers(0, 255, (180, 400), np.uint8) for _ in range(2)]
    blurred = [cv2.GaussianBlur(wall, None, 2) for wall in walls]
    stretched = [cv2.normalize(wall, None, 0, 255, cv2.NORM_MINMAX) for wall in blurred]
    for index, name in enumerate(NAMES):
        wall = stretched[index == len(NAMES) - 1]
        cv2.imwrite(str(folder / name), wall[:, 20 * index : 20 * index + 240])
    return folder


def matched(pictures, database, known=False):
    extract_features(database, pictures, NAMES, CAMERA, known, 500)
    match_pairs(database, NAMES, all_pairs(len(NAMES)))
    return reject_weak_pairs(database, NAMES, all_pairs(len(NAMES)), 15)


def content(file):
    with pycolmap.Database.open(file) as database:
        images = database.read_all_images()
        pairs, geometries = database.read_two_view_geometries()
        return (
            [(image.image_id, image.name) for image in images],
            [database.read_keypoints(image.image_id).tobytes() for image in images],
            pairs,
            [geometry.inlier_matches.tobytes() for geometry in geometries],
        )


def test_pictures_of_one_wall_are_matched_and_the_other_is_not(pictures, tmp_path):
    confirmed = matched(pictures, tmp_path / "a.db")
    assert confirmed == all_pairs(len(NAMES) - 1)


def test_twice_the_same(pictures, tmp_path):
    """Although features are found by several threads."""
    for name in ("a.db", "b.db"):
        matched(pictures, tmp_path / name)
    assert content(tmp_path / "a.db") == content(tmp_path / "b.db")
    assert content(tmp_path / "a.db")[0] == [(i + 1, name) for i, name in enumerate(NAMES)]


@pytest.mark.parametrize("known", [True, False])
def test_one_camera_for_all(pictures, tmp_path, known):
    matched(pictures, tmp_path / "a.db", known)
    with pycolmap.Database.open(tmp_path / "a.db") as database:
        (camera,) = database.read_all_cameras()
    assert camera.has_prior_focal_length == known
    assert camera.model_name == ("PINHOLE" if known else "SIMPLE_PINHOLE")
    assert camera.focal_length_x == 230
