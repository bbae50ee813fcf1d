"""Local features of the keyframes, matched where pictures may show the same place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pycolmap

from mem3r_plugin.geometry import Intrinsics

Pairs = set[tuple[int, int]]
"""Pairs (i, j) of keyframe ranks, i < j."""

_SMALL_PICTURE = 700_000  # pixels; below, SIFT finds finer features in the picture enlarged twice
_PLAUSIBLE_FOCAL = (0.4, 4.0)  # in long sides of the picture: 103 to 14 degrees of view
_TRIALS = (30, 300)  # of RANSAC; pairs that show different places cost all of them

USUAL_FOCAL = 0.8
"""Focal length of phones and cameras for video, in long sides of the picture."""


@dataclass(frozen=True)
class MatchingConfig:
    """Which pairs of keyframes are matched, and how."""

    max_features: int = 4096
    """SIFT features of a picture at most."""
    sequential: int = 6
    """Keyframes matched with each one before it, beside those 8, 16, 32 … before it."""
    overlapping: int = 4
    """Other keyframes matched with each one because the network finds them alike and overlapping."""
    loops: int = 4
    """Other keyframes matched with each one because their local features are alike."""
    exhaustive_below: int = 40
    """With fewer keyframes every pair is matched: the network knows little of photographs taken far apart."""
    min_inliers: int = 15
    """Matches of a neighbouring pair that must agree with one motion."""
    min_loop_inliers: int = 30
    """The same for all other pairs: a false loop bends the whole scan."""


def extract_features(
    database: Path, pictures: Path, names: list[str], camera: Intrinsics, known: bool, limit: int
) -> None:
    """SIFT features of the pictures into a new COLMAP database with one camera for all.

    Args:
        database: File to make.
        pictures: Folder of the pictures.
        names: Their file names.
        camera: The camera as far as it is known.
        known: Whether it is exactly known; else its focal length is only where the search begins.
        limit: Features of a picture at most.
    """
    options = pycolmap.FeatureExtractionOptions()
    options.sift.max_num_features = limit
    options.sift.first_octave = -1 if camera.width * camera.height < _SMALL_PICTURE else 0
    reader = pycolmap.ImageReaderOptions()
    reader.camera_model = "PINHOLE" if known else "SIMPLE_PINHOLE"
    reader.camera_params = ",".join(map(str, _parameters(camera, known)))
    mode = pycolmap.CameraMode.SINGLE
    pycolmap.Database.open(database).close()
    pycolmap.import_images(database, pictures, mode, names, reader)  # ids in order, not as done
    pycolmap.extract_features(database, pictures, names, mode, reader, options)
    with pycolmap.Database.open(database) as opened:
        (stored,) = opened.read_all_cameras()
        stored.has_prior_focal_length = known
        opened.update_camera(stored)


def match_pairs(database: Path, names: list[str], pairs: Pairs) -> None:
    """Match pictures pair by pair and keep what agrees with one epipolar geometry."""
    listing = database.with_suffix(".pairs.txt")
    listing.write_text("".join(f"{names[i]} {names[j]}\n" for i, j in sorted(pairs)))
    pairing = pycolmap.ImportedPairingOptions()
    pairing.match_list_path = listing
    verification = pycolmap.TwoViewGeometryOptions()
    verification.ransac.random_seed = 0
    verification.ransac.min_num_trials, verification.ransac.max_num_trials = _TRIALS
    pycolmap.match_image_pairs(database, pairing_options=pairing, verification_options=verification)


def reject_weak_pairs(database: Path, names: list[str], pairs: Pairs, min_inliers: int) -> Pairs:
    """Take out of the database those of `pairs` with fewer agreeing matches; returns the others."""
    confirmed: Pairs = set()
    with pycolmap.Database.open(database) as opened:
        ids = {image.name: image.image_id for image in opened.read_all_images()}
        for i, j in pairs:
            first, second = ids[names[i]], ids[names[j]]
            if not opened.exists_two_view_geometry(first, second):
                continue
            geometry = opened.read_two_view_geometry(first, second)
            if len(geometry.inlier_matches) >= min_inliers:
                confirmed.add((i, j))
            else:
                opened.delete_two_view_geometry(first, second)
    return confirmed


def _parameters(camera: Intrinsics, known: bool) -> list[float]:
    if known:
        return [camera.fx, camera.fy, camera.cx, camera.cy]
    long_side = max(camera.width, camera.height)
    low, high = (share * long_side for share in _PLAUSIBLE_FOCAL)
    focal = camera.fx if low <= camera.fx <= high else USUAL_FOCAL * long_side
    return [focal, camera.width / 2, camera.height / 2]
