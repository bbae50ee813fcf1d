"""Depth from neighbours at known poses, measured against the true depth of a sequence.

    python benchmarks/depth.py ../shared/data/rgbd_7scenes_redkitchen --work /tmp/depth --stride 3
    python benchmarks/depth.py ../shared/data/rgbd_7scenes_redkitchen --refined SCAN

The first way asks what matching can do. True poses are polished, since those of an RGB-D camera fit its
colour pictures to a few pixels only: COLMAP's mapping is brought to them and bundle-adjusted under tight
position priors, with the true camera. The network takes no part. Every picture is a keyframe, at half
its resolution.

The second way refines the depth of a scan that `mem3r refine` left once more, at the poses it found, and
measures all frames, keyframes and those between them. It knows no truth but one scale for all of them.

Each line ends with the bars; the time is the processor's, all threads together.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import pycolmap
from numpy.typing import NDArray

from mem3r_plugin.evaluation import PosedSequence
from mem3r_plugin.evaluation.depth import depth_errors
from mem3r_plugin.evaluation.scan import match_frames
from mem3r_plugin.geometry import ImageTransform, Intrinsics
from mem3r_plugin.geometry.alignment import umeyama
from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.geometry.pose import invert_pose, pose_matrix
from mem3r_plugin.refine.depth.sequence import CONFIDENT, DepthConfig, refine_depth
from mem3r_plugin.refine.estimates import refined_estimates
from mem3r_plugin.refine.posed import PosedFrames
from mem3r_plugin.refine.straight import StraightScan
from mem3r_plugin.scan import Scan

POSITION_ERROR = 0.002
"""Standard deviation of the prior on camera positions, in units of the truth (metres)."""

LARGEST_REPROJECTION_ERROR = 1.5
"""Pixels; points with more, or seen by fewer than three pictures, are no structure."""


def main() -> None:
    """Measure one sequence and print its errors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sequence", type=Path)
    way = parser.add_mutually_exclusive_group(required=True)
    way.add_argument("--work", type=Path, help="measure at polished true poses; their folder")
    way.add_argument("--refined", type=Path, help="measure at the poses of this refined scan")
    parser.add_argument("--stride", type=int, default=1, help="take every so manieth picture")
    parser.add_argument("--start", type=int, default=0, help="first keyframe measured")
    parser.add_argument("--stop", type=int, help="keyframe to stop before")
    options = parser.parse_args()
    sequence = PosedSequence.load(options.sequence)
    if options.refined:
        measure_refined(sequence, options.refined)
        return
    model = polished_model(sequence, options.work, options.stride)
    measure(sequence, model, slice(options.start, options.stop))


def polished_model(sequence: PosedSequence, work: Path, stride: int) -> pycolmap.Reconstruction:
    """The largest model of COLMAP's mapper, bundle-adjusted at the true positions and camera."""
    if not (work / "0").exists():
        pictures, database = work / "pictures", work / "database.db"
        pictures.mkdir(parents=True)
        for rank in range(0, len(sequence), stride):
            (pictures / f"{rank:06d}.jpg").symlink_to(sequence.images[rank].resolve())
        reader = pycolmap.ImageReaderOptions(camera_model="SIMPLE_RADIAL")
        pycolmap.extract_features(
            database, pictures, camera_mode=pycolmap.CameraMode.SINGLE, reader_options=reader
        )
        pycolmap.match_sequential(database)
        pycolmap.incremental_mapping(database, pictures, work)
    models = [pycolmap.Reconstruction(folder.parent) for folder in work.glob("*/cameras.bin")]
    model = max(models, key=lambda model: model.num_reg_images())
    _adjust(model, sequence)
    return model


def _adjust(model: pycolmap.Reconstruction, sequence: PosedSequence) -> None:
    images = _posed_images(model)
    true = sequence.camera_to_world[[_rank(image) for image in images], :3, 3]
    fit = umeyama(np.stack([image.projection_center() for image in images]), true)
    model.transform(pycolmap.Sim3d(fit.scale, pycolmap.Rotation3d(fit.rotation), fit.translation))
    config, priors = pycolmap.BundleAdjustmentConfig(), []
    for image, position in zip(images, true, strict=True):
        config.add_image(image.image_id)
        prior = pycolmap.PosePrior()
        prior.pose_prior_id, prior.corr_data_id = image.image_id, image.data_id
        prior.position, prior.position_covariance = position, np.eye(3) * POSITION_ERROR**2
        prior.coordinate_system = pycolmap.PosePriorCoordinateSystem.CARTESIAN
        priors.append(prior)
    camera, (camera_id,) = sequence.intrinsics, model.cameras
    distortion = model.cameras[camera_id].params[3]
    model.cameras[camera_id].params = [camera.fx, camera.cx, camera.cy, distortion]
    config.set_constant_cam_intrinsics(camera_id)
    pycolmap.create_pose_prior_bundle_adjuster(
        pycolmap.BundleAdjustmentOptions(),
        pycolmap.PosePriorBundleAdjustmentOptions(),
        config,
        priors,
        model,
    ).solve()
    model.update_point_3d_errors()


def measure(sequence: PosedSequence, model: pycolmap.Reconstruction, keyframes: slice) -> None:
    """Refine the depth of keyframes and print its errors at one scale for all of them."""
    images = _posed_images(model)[keyframes]
    matrices = np.stack([image.cam_from_world().matrix() for image in images])
    poses = invert_pose(pose_matrix(matrices[..., :3], matrices[..., 3]))
    focal, cx, cy, distortion = next(iter(model.cameras.values())).params
    camera = replace(sequence.intrinsics, fx=focal, fy=focal, cx=cx, cy=cy)
    half = ImageTransform.identity((camera.width, camera.height)).resized(
        camera.width // 2, camera.height // 2
    )

    def picture(index: int) -> NDArray[np.uint8]:
        stored = cv2.imread(str(sequence.images[_rank(images[index])]))
        straight = cv2.undistort(stored, _opencv(camera), np.array([distortion, 0, 0, 0]))
        small = cv2.resize(straight, half.target_size, interpolation=cv2.INTER_AREA)
        return np.ascontiguousarray(small[..., ::-1])

    start = time.process_time()
    with TemporaryDirectory() as folder:
        results = list(
            refine_depth(
                poses,
                half.intrinsics(camera),
                picture,
                [_structure(model, image) for image in images],
                range(len(images)),
                Path(folder),
            )
        )
    seconds = (time.process_time() - start) / len(images)
    true = np.stack([half.sample(sequence.depth(_rank(image))) for image in images])
    depth = np.stack([result.depth for result in results])
    confidence = np.stack([result.confidence for result in results])
    scale = _scale(depth, true)
    print(f"{sequence.name}, {len(images)} keyframes: {_errors(scale * depth, true, confidence)}")
    print(f"{seconds:.2f} s of CPU a keyframe (bar 2)")


def measure_refined(sequence: PosedSequence, refined: Path) -> None:
    """Refine the depth of a refined scan's source at the refined poses and print its errors."""
    scan = Scan.open(Path(Scan.open(refined).header.settings["refine"]["scan"]))
    posed = PosedFrames.load(refined / "refine" / "poses.npz")
    bent = posed.undistortion
    if bent is not None:
        scan = StraightScan(scan, bent)
    matches = match_frames(scan, sequence)
    start = time.process_time()
    with TemporaryDirectory() as folder:
        results = refined_estimates(scan, posed, DepthConfig(), Path(folder))
        estimates = [estimate for estimate, _ in results]
    seconds = time.process_time() - start
    true = []
    for estimate, match in zip(estimates, matches, strict=True):
        known = sequence.depth(match).astype(np.float32)
        true.append(estimate.transform.sample(known if bent is None else bent.map(known)))
    truth = np.stack(true)
    depth = np.stack([estimate.depth for estimate in estimates])
    confidence = np.stack([estimate.confidence for estimate in estimates])
    scale = _scale(depth, truth)
    key = np.array([support == "mapped" for support in posed.support])
    for name, part in (("all", np.ones_like(key)), ("keyframes", key), ("between", ~key)):
        if part.any():
            errors = _errors(scale * depth[part], truth[part], confidence[part])
            print(f"{sequence.name}, {name}, {part.sum()} frames: {errors}")
    print(f"{seconds / key.sum():.2f} s of CPU a keyframe, frames between included (bar 2)")


def _scale(depth: NDArray[np.float32], true: NDArray[np.float32]) -> float:
    known = (true > 0) & (depth > 0)
    return depth_errors(depth[known], true[known], "absolute").scale


def _errors(
    depth: NDArray[np.float32], true: NDArray[np.float32], confidence: NDArray[np.float32]
) -> str:
    """Errors of scaled depth in words, beside the bars of issue 3."""
    known = (true > 0) & (depth > 0)
    error = np.abs(depth[known] / true[known] - 1)
    confident = confidence[known] >= CONFIDENT
    return (
        f"median error {100 * np.median(error[confident]):.2f} % (bar 2.5) over the "
        f"{100 * confident.mean():.0f} % confident pixels (bar 70), "
        f"AbsRel {error.mean():.3f} over all (bar 0.10)"
    )


def _posed_images(model: pycolmap.Reconstruction) -> list[pycolmap.Image]:
    posed = [image for image in model.images.values() if image.has_pose]
    return sorted(posed, key=lambda image: image.name)


def _rank(image: pycolmap.Image) -> int:
    return int(Path(image.name).stem)


def _structure(model: pycolmap.Reconstruction, image: pycolmap.Image) -> FloatArray:
    """World points (n, 3) that a picture sees and that are well established."""
    points = [model.points3D[seen.point3D_id] for seen in image.points2D if seen.has_point3D()]
    good = [
        point.xyz
        for point in points
        if point.track.length() >= 3 and point.error < LARGEST_REPROJECTION_ERROR
    ]
    return np.array(good, np.float64).reshape(-1, 3)


def _opencv(camera: Intrinsics) -> FloatArray:
    """The calibration matrix with pixel centres at integers."""
    matrix = camera.matrix
    matrix[:2, 2] -= 0.5
    return matrix


if __name__ == "__main__":
    main()
