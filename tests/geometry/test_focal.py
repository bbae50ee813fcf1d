import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem3r_plugin.geometry import ImageTransform, Intrinsics
from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.geometry.focal import focal_from_votes, focal_votes, weiszfeld_focal
from tests.golden_functions import golden_functions

ORIGINAL = (640, 480)
RESIZED = ImageTransform.identity(ORIGINAL).resized(64, 47).cropped(0, 7, 64, 32)


def self_view(focal: float, transform: ImageTransform = RESIZED, seed: int = 0) -> FloatArray:
    """Points (h, w, 3) that a camera of this focal length in original pixels sees."""
    camera = transform.intrinsics(Intrinsics.centred(focal, *transform.source_size))
    depth = np.random.default_rng(seed).uniform(1, 9, (camera.height, camera.width))
    return camera.unproject_depth(depth)


def voted(points: FloatArray, confidence: FloatArray | None = None) -> float:
    """The focal length voted for, in original pixels."""
    weights = np.ones(points.shape[:2]) if confidence is None else confidence
    focal = focal_from_votes(focal_votes(points, weights, RESIZED))
    assert focal is not None
    return focal * max(ORIGINAL)


@given(focal=st.floats(100, 10_000))
def test_exact_points_give_the_focal_length(focal: float) -> None:
    assert voted(self_view(focal)) == pytest.approx(focal, rel=2e-3)


@given(turns=st.integers(0, 3), mirrored=st.booleans())
def test_any_record_leads_to_the_same_physical_focal_length(turns: int, mirrored: bool) -> None:
    record = ImageTransform.identity(ORIGINAL).rotated(turns).resized(90, 51)
    record = record.mirrored() if mirrored else record
    votes = focal_votes(self_view(500, record), np.ones((51, 90)), record)
    assert focal_from_votes(votes) == pytest.approx(500 / 640, rel=2e-3)


def test_noise_leaves_the_median_in_place() -> None:
    points = self_view(500)
    rng = np.random.default_rng(1)
    points[..., :2] += points[..., 2:] * rng.normal(0, 0.02, points[..., :2].shape)
    assert voted(points) == pytest.approx(500, rel=0.02)


def test_wild_points_do_not_matter() -> None:
    """Near z = 0, behind the camera, not finite: what spoils the reference's estimate."""
    points = self_view(500)
    rng = np.random.default_rng(2)
    bad = rng.random(points.shape[:2]) < 0.3
    points[bad] = rng.normal(0, 1, (bad.sum(), 3)) * 10.0 ** rng.uniform(-9, 3, (bad.sum(), 1))
    points[0, :9] = np.nan
    points[1, :9] = np.inf
    points[2, :9] = 0.0
    assert voted(points) == pytest.approx(500, rel=0.1)


def test_confidence_decides_between_opinions() -> None:
    points = self_view(500)
    points[:20] = self_view(900)[:20]
    confidence = np.ones(points.shape[:2])
    assert voted(points, confidence) == pytest.approx(900, rel=0.05)
    confidence[20:] = 20.0
    assert voted(points, confidence) == pytest.approx(500, rel=0.05)
    confidence[:20] = 0.0
    assert voted(points, confidence) == pytest.approx(500, rel=2e-3)


def test_a_frame_weighs_by_its_valid_share_not_by_its_confidence() -> None:
    points = self_view(500)
    sure = focal_votes(points, np.full(points.shape[:2], 1e6), RESIZED)
    np.testing.assert_allclose(focal_votes(points, np.ones(points.shape[:2]), RESIZED), sure)
    assert sure.sum() == pytest.approx(1.0)
    half = np.ones(points.shape[:2])
    half[:, ::4] = 0.0
    assert focal_votes(points, half, RESIZED).sum() == pytest.approx(0.5)


def test_without_a_usable_point_there_is_no_vote() -> None:
    points = -self_view(500)
    votes = focal_votes(points, np.ones(points.shape[:2]), RESIZED)
    assert not votes.any()
    assert focal_from_votes(votes) is None


@pytest.mark.parametrize("case", range(4))
def test_weiszfeld_matches_the_reference(case: int) -> None:
    golden = golden_functions()
    x, y = golden[f"focal.{case}.pp"][0]
    focal = weiszfeld_focal(golden[f"focal.{case}.pts"][0], (float(x), float(y)))
    assert focal == pytest.approx(float(golden[f"focal.{case}.weiszfeld"][0]), rel=1e-5)
