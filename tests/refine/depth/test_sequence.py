import multiprocessing
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.refine.depth.alignment import align_depth
from mem3r_plugin.refine.depth.merge import merge_depth, relief_share
from mem3r_plugin.refine.depth.sequence import CONFIDENT, RefinedDepth, refine_depth
from tests.refine import stereo_room

CAMERA = Intrinsics.centred(50.0, 40, 30)


def evidence(true, count=120):
    generator = np.random.default_rng(1)
    pixels = generator.uniform([0, 0], [40, 30], (count, 2))
    columns, rows = np.floor(pixels).astype(int).T
    return pixels, true[rows, columns]


def ramp():
    return np.linspace(1, 4, 40) + np.linspace(0, 2, 30)[:, None]


@given(st.floats(0.01, 100))
def test_a_scale_is_found(scale) -> None:
    true = ramp()
    pixels, known = evidence(true)
    correction = align_depth(true / scale, CAMERA, pixels, known)
    assert correction is not None
    np.testing.assert_allclose(correction.coefficients, [np.log(scale)], atol=1e-9)
    np.testing.assert_allclose(correction.apply(true / scale, CAMERA), true, rtol=1e-5)
    assert correction.residual < 1e-6


def test_a_scale_survives_gross_errors() -> None:
    true = ramp()
    pixels, known = evidence(true)
    known[::4] *= 3
    correction = align_depth(true / 2, CAMERA, pixels, known)
    assert correction is not None
    np.testing.assert_allclose(correction.apply(true / 2, CAMERA), true, rtol=0.01)


def test_noise_alone_does_not_buy_a_larger_correction() -> None:
    true = ramp()
    pixels, known = evidence(true)
    known *= np.exp(np.random.default_rng(2).normal(0, 0.05, len(known)))
    correction = align_depth(true / 2, CAMERA, pixels, known)
    assert correction is not None
    assert len(correction.coefficients) == 1
    assert 0.02 < correction.residual < 0.06


def test_a_slope_over_the_picture_is_found() -> None:
    true = ramp()
    x = (CAMERA.pixel_centres()[..., 0] - CAMERA.cx) / CAMERA.fx
    prior = true**0.8 * np.exp(-0.3 * x)
    pixels, known = evidence(true)
    correction = align_depth(prior, CAMERA, pixels, known)
    assert correction is not None
    assert len(correction.coefficients) == 4
    np.testing.assert_allclose(correction.apply(prior, CAMERA), true, rtol=0.02)


def test_too_little_evidence_is_no_evidence() -> None:
    pixels, known = evidence(ramp(), 9)
    assert align_depth(ramp(), CAMERA, pixels, known) is None


def test_unknown_depth_stays_unknown() -> None:
    true = ramp()
    prior = true.copy()
    prior[:5] = 0
    correction = align_depth(prior, CAMERA, *evidence(true))
    assert correction is not None
    assert (correction.apply(prior, CAMERA)[:5] == 0).all()


def test_a_hole_is_filled_by_the_shape_of_the_prior() -> None:
    true = torch.from_numpy(ramp()).float()
    true[10:20, 10:25] *= 0.6  # a box that only the prior knows
    weight = torch.ones_like(true)
    weight[8:22, 8:28] = 0
    guide = torch.full_like(true, 0.5)
    with_prior = merge_depth(true * (weight > 0), weight, guide, 1.7 * true)
    without = merge_depth(true * (weight > 0), weight, guide)
    hole = weight == 0
    assert (with_prior / true - 1)[hole].abs().max() < 0.05
    assert (without / true - 1)[hole].abs().mean() > 0.2


def test_a_prior_that_measurements_contradict_is_not_used() -> None:
    true = torch.from_numpy(ramp()).float()
    noise = torch.from_numpy(np.random.default_rng(3).normal(0, 0.5, true.shape)).float().exp()
    assert relief_share(true.log(), torch.ones_like(true), noise.log()) < 0.2
    assert relief_share(true.log(), torch.ones_like(true), true.log()) == pytest.approx(1, abs=1e-3)


def test_an_edge_in_the_picture_keeps_two_depths_apart() -> None:
    measured = torch.zeros(20, 20)
    measured[:, 0], measured[:, -1] = 1.0, 3.0
    guide = torch.zeros(20, 20)
    guide[:, 10:] = 1.0
    depth = merge_depth(measured, (measured > 0).float(), guide)
    torch.testing.assert_close(depth[:, :9], torch.full((20, 9), 1.0), rtol=0.05, atol=0)
    torch.testing.assert_close(depth[:, 11:], torch.full((20, 9), 3.0), rtol=0.05, atol=0)


def test_nothing_measured_is_an_error() -> None:
    with pytest.raises(ValueError, match="no measured depth"):
        merge_depth(torch.ones(4, 4), torch.zeros(4, 4), torch.zeros(4, 4))


@pytest.fixture(scope="module")
def refined(tmp_path_factory: pytest.TempPathFactory) -> list[RefinedDepth]:
    """Nine frames, every second a keyframe, with a prior at a wrong scale that changes by frame."""
    return list(
        refine_depth(
            np.stack([stereo_room.pose(i) for i in range(9)]),
            stereo_room.CAMERA,
            stereo_room.picture,
            [stereo_room.structure(i) for i in range(9)],
            keyframes=range(0, 9, 2),
            folder=tmp_path_factory.mktemp("depth"),
            prior=lambda i: (stereo_room.true_depth(i) * (3 + 0.2 * i)).astype(np.float32),
        )
    )


def errors(result: RefinedDepth) -> np.ndarray:
    truth = stereo_room.true_depth(result.index)
    return np.abs(result.depth - truth) / truth


def test_every_frame_gets_depth_at_the_structures_scale(refined) -> None:
    assert [result.index for result in refined] == list(range(9))
    for result in refined:
        assert (result.depth > 0).all()
        assert errors(result).mean() < 0.03


def test_confident_pixels_are_many_and_right(refined) -> None:
    for result in refined:
        confident = result.confidence >= CONFIDENT
        assert confident.mean() > 0.4
        assert np.median(errors(result)[confident]) < 0.012


def test_blank_walls_keep_the_priors_shape(refined) -> None:
    for result in refined:
        blank = ~stereo_room.papered(result.index)
        assert np.median(errors(result)[blank]) < 0.03


def test_the_corrections_say_how_well_the_prior_fits(refined) -> None:
    for result in refined:
        assert result.correction is not None
        assert result.correction.residual < 0.02


def start_refinement(folder: Path) -> Iterator[RefinedDepth]:
    return refine_depth(
        np.stack([stereo_room.pose(i) for i in range(5)]),
        stereo_room.CAMERA,
        stereo_room.picture,
        [stereo_room.structure(i) for i in range(5)],
        keyframes=range(5),
        folder=folder,
    )


def _refine_until_killed(folder: Path) -> None:
    for _ in start_refinement(folder):
        pass


def test_killed_while_matching_it_goes_on_to_the_same_result(tmp_path: Path) -> None:
    whole = list(start_refinement(tmp_path / "whole"))
    process = multiprocessing.get_context("spawn").Process(
        target=_refine_until_killed, args=(tmp_path / "killed",)
    )
    process.start()
    while len(list((tmp_path / "killed").glob("[0-9]*.npy"))) < 2:
        time.sleep(0.01)
    process.kill()
    process.join()
    kept = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "killed").glob("0*.npy")}
    again = list(start_refinement(tmp_path / "killed"))
    for first, second in zip(whole, again, strict=True):
        np.testing.assert_array_equal(first.depth, second.depth)
        np.testing.assert_array_equal(first.confidence, second.confidence)
    for name, written in kept.items():
        assert (tmp_path / "killed" / name).stat().st_mtime_ns == written  # not matched again


def test_it_can_start_at_any_frame_and_tells_how_far_it_is(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    arguments = (
        np.stack([stereo_room.pose(i) for i in range(3)]),
        stereo_room.CAMERA,
        stereo_room.picture,
        [stereo_room.structure(i) for i in range(3)],
        [0, 2],
        tmp_path,
    )
    whole = list(refine_depth(*arguments, progress=lambda *state: told.append(state)))
    assert told[0] == ("matching keyframes", 0, 2)
    assert told[-1] == ("refining depth", 2, 3)
    (last,) = refine_depth(*arguments, start=2)
    assert last.index == 2
    np.testing.assert_array_equal(last.depth, whole[2].depth)


def test_a_frame_without_anything_known_has_no_depth(tmp_path: Path) -> None:
    results = list(
        refine_depth(
            np.stack([np.eye(4)]),
            stereo_room.CAMERA,
            stereo_room.picture,
            [np.zeros((0, 3))],
            keyframes=[0],
            folder=tmp_path,
        )
    )
    assert (results[0].depth == 0).all()
    assert (results[0].confidence == 1).all()
