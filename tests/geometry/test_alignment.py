import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mem3r_plugin.geometry.alignment import Similarity, umeyama
from mem3r_plugin.geometry.camera import FloatArray
from tests.geometry.strategies import points, poses, rotations, translations

similarities = st.builds(Similarity, st.floats(0.1, 10), rotations, translations)


@given(cloud=points(3), truth=similarities)
def test_an_exact_similarity_is_found_again(cloud: FloatArray, truth: Similarity) -> None:
    assume(np.linalg.svd(cloud - cloud.mean(axis=0), compute_uv=False)[1] > 0.1)
    found = umeyama(cloud, truth.points(cloud))
    assert found.scale == pytest.approx(truth.scale, rel=1e-9)
    np.testing.assert_allclose(found.rotation, truth.rotation, atol=1e-6)
    np.testing.assert_allclose(found.points(cloud), truth.points(cloud), atol=1e-8)


@given(cloud=points(), target=points(), data=st.data())
def test_no_other_similarity_fits_better(
    cloud: FloatArray, target: FloatArray, data: st.DataObject
) -> None:
    count = min(len(cloud), len(target))
    cloud, target = cloud[:count], target[:count]
    found, other = umeyama(cloud, target), data.draw(similarities)
    assert np.linalg.det(found.rotation) == pytest.approx(1.0)
    best = ((found.points(cloud) - target) ** 2).sum()
    assert best <= ((other.points(cloud) - target) ** 2).sum() + 1e-6


@given(cloud=points(3), target=similarities)
def test_a_rigid_alignment_keeps_lengths(cloud: FloatArray, target: Similarity) -> None:
    assert umeyama(cloud, target.points(cloud), with_scale=False).scale == 1.0


def test_a_mirrored_cloud_is_not_answered_with_a_mirror() -> None:
    cloud = np.random.default_rng(0).normal(size=(20, 3))
    found = umeyama(cloud, cloud * (-1, 1, 1))
    assert np.linalg.det(found.rotation) == pytest.approx(1.0)


def test_a_camera_that_never_moves_is_put_in_the_middle() -> None:
    target = np.random.default_rng(0).normal(size=(20, 3))
    found = umeyama(np.ones((20, 3)), target)
    assert found.scale == 1.0
    np.testing.assert_allclose(found.points(np.ones(3)), target.mean(axis=0))


@given(pose=poses, similarity=similarities, point=points(1, 1))
def test_poses_come_along_rigidly(
    pose: FloatArray, similarity: Similarity, point: FloatArray
) -> None:
    """What a camera sees at p, the moved camera sees at scale * p."""
    moved = similarity.poses(pose)
    np.testing.assert_allclose(moved[:3, :3] @ moved[:3, :3].T, np.eye(3), atol=1e-12)
    seen = pose[:3, :3] @ point[0] + pose[:3, 3]
    scaled = moved[:3, :3] @ (similarity.scale * point[0]) + moved[:3, 3]
    np.testing.assert_allclose(scaled, similarity.points(seen), atol=1e-9)


def test_sets_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(3, 3\) with \(4, 3\)"):
        umeyama(np.zeros((3, 3)), np.zeros((4, 3)))
