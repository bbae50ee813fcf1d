"""Mapping at poses that are roughly known: triangulate, adjust, and see what it explains."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.geometry.pose import invert_pose
from mem3r_plugin.refine.keyframes.picture_names import frame_of
from mem3r_plugin.refine.mapping.adjust import adjustment_options, feature_noise
from mem3r_plugin.refine.mapping.incremental import mapping_options

# Of triangulation and filters, in COLMAP's usual ones; the last again, for what only adjusted poses explain.
_TOLERANCES = (4.0, 1.0, 1.0)
_NEAR = 0.33  # share of any picture's matched features that must become sightings of points
_HELD = 0.9  # share of well matched pairs that the adjusted map must not contradict
_MOST_STRAYS = 0.2  # share of the pictures; with more, the rest is no map to place them in
_LINK = 15  # points that two linked pictures see
_MAX_ERROR = 1.0  # mean, in pixels
_MIN_POINTS = 30  # that every picture sees, and that make a pair well matched


def map_from_poses(
    database: Path, predicted: dict[int, FloatArray], refine_camera: bool
) -> pycolmap.Reconstruction | None:
    """Triangulate the matches at predicted poses and adjust.

    Poses that are a few degrees off are pulled right, without the search for an order of pictures that
    incremental mapping consists of. Whether they are near enough is not believed but seen, at
    once: the features of every picture must meet in points. On the fountain of Strecha et al. true poses
    turned by 5 degrees and shifted by half a step pass that; those that fail had led to maps
    with single pictures in the wrong place. Where a picture comes to contradict its best neighbour all the
    same, it is taken out and placed by the points that the others see.

    Args:
        database: COLMAP database with features and verified matches.
        predicted: `camera_to_world` (4, 4) by frame index, of every picture, in one scale.
        refine_camera: Whether focal length and distortion are free.

    Returns:
        None where the poses do not explain the matches.
    """
    with pycolmap.Database.open(database) as opened:
        cache = pycolmap.DatabaseCache.create(opened, pycolmap.DatabaseCacheOptions())
    model = _posed(cache, predicted)
    if model is None:
        return None
    mapper = pycolmap.IncrementalMapper(cache)
    mapper.begin_reconstruction(model)
    for tolerance in _TOLERANCES:
        options = _loosened(mapping_options(refine_camera), tolerance)
        _triangulate(mapper, model, options.triangulation)
        if min(_seen_shares(model, cache).values()) < _NEAR:
            return None
        _adjust(mapper, model, options, refine_camera)
    _place_strays(mapper, model, cache, options, refine_camera)
    mapper.end_reconstruction(False)
    return model if _convinces(model, cache) else None


def _place_strays(
    mapper: pycolmap.IncrementalMapper,
    model: pycolmap.Reconstruction,
    cache: pycolmap.DatabaseCache,
    options: pycolmap.IncrementalPipelineOptions,
    refine_camera: bool,
) -> None:
    """Place pictures anew that contradict the one they match best, and adjust.

    So it ends where a picture begins too far off, and what is near finds no common points with its
    neighbours: what is far does, wherever the picture stands.
    """
    strays = _strays(model, cache, _held(model, cache))
    if not strays or len(strays) > _MOST_STRAYS * model.num_reg_images():
        return
    for image in strays:
        mapper.observation_manager.deregister_frame(model.images[image].frame_id)
    # They come back in the order in which points are seen in them.
    for image in mapper.find_next_images(options.mapper, False):
        if image in strays and mapper.register_next_image(options.mapper, image):
            mapper.triangulate_image(options.triangulation, image)
    mapper.complete_and_merge_tracks(options.triangulation)
    model.update_point_3d_errors()
    _adjust(mapper, model, options, refine_camera)


def _adjust(
    mapper: pycolmap.IncrementalMapper,
    model: pycolmap.Reconstruction,
    options: pycolmap.IncrementalPipelineOptions,
    refine_camera: bool,
) -> None:
    adjustment = adjustment_options(feature_noise(model), refine_camera)
    mapper.adjust_global_bundle(options.mapper, adjustment)
    mapper.filter_points(options.mapper)


def _posed(
    cache: pycolmap.DatabaseCache, predicted: dict[int, FloatArray]
) -> pycolmap.Reconstruction | None:
    """A model of the matched pictures at their poses, without points.

    None where a pose is missing, or no two pictures match.
    """
    model = pycolmap.Reconstruction()
    model.load(cache)
    for image in model.images.values():
        pose = predicted.get(frame_of(image.name))
        if pose is None:
            return None
        image.frame.rig_from_world = pycolmap.Rigid3d(invert_pose(pose)[:3])
        model.register_frame(image.frame_id)
    return model if model.images else None


def _loosened(
    options: pycolmap.IncrementalPipelineOptions, tolerance: float
) -> pycolmap.IncrementalPipelineOptions:
    options.triangulation.create_max_angle_error *= tolerance
    options.triangulation.continue_max_angle_error *= tolerance
    options.triangulation.merge_max_reproj_error *= tolerance
    options.triangulation.complete_max_reproj_error *= tolerance
    options.mapper.filter_max_reproj_error *= tolerance
    return options


def _triangulate(
    mapper: pycolmap.IncrementalMapper,
    model: pycolmap.Reconstruction,
    options: pycolmap.IncrementalTriangulatorOptions,
) -> None:
    for image in sorted(model.reg_image_ids()):
        mapper.triangulate_image(options, image)
    mapper.complete_and_merge_tracks(options)
    model.update_point_3d_errors()


def _seen_shares(model: pycolmap.Reconstruction, cache: pycolmap.DatabaseCache) -> dict[int, float]:
    """Share of each picture's matched features that are sightings of points."""
    matches = cache.correspondence_graph
    return {
        image_id: image.num_points3D / max(matches.num_observations_for_image(image_id), 1)
        for image_id, image in model.images.items()
    }


def _convinces(model: pycolmap.Reconstruction, cache: pycolmap.DatabaseCache) -> bool:
    model.update_point_3d_errors()
    held = _held(model, cache)
    return bool(
        all(image.num_points3D >= _MIN_POINTS for image in model.images.values())
        and _hangs_together(model)
        and float(np.mean([*held.values()] or [False])) >= _HELD
        and not _strays(model, cache, held)
        and model.compute_mean_reprojection_error() <= _MAX_ERROR
    )


def _hangs_together(model: pycolmap.Reconstruction) -> bool:
    """Whether points link all pictures; else the predicted poses alone would hold parts together."""
    rows = {image: row for row, image in enumerate(model.images)}
    sightings = [
        (rows[element.image_id], column)
        for column, point in enumerate(model.points3D.values())
        for element in point.track.elements
    ]
    image, point = np.array(sightings).T
    seen = coo_array(
        (np.ones(len(image)), (image, point)), (len(rows), len(model.points3D))
    ).tocsr()
    shared = (seen @ seen.T) >= _LINK
    return bool(connected_components(shared)[0] == 1)


def _strays(
    model: pycolmap.Reconstruction,
    cache: pycolmap.DatabaseCache,
    held: dict[tuple[int, int], bool],
) -> set[int]:
    """Pictures that contradict the one they match best, or that one, if fewer of its features see points."""
    count = cache.correspondence_graph.num_matches_between_images
    best: dict[int, tuple[int, int]] = {}
    for pair in held:
        for image in pair:
            if image not in best or count(*pair) > count(*best[image]):
                best[image] = pair
    seen = _seen_shares(model, cache)
    return {min(pair, key=seen.__getitem__) for pair in best.values() if not held[pair]}


def _held(
    model: pycolmap.Reconstruction, cache: pycolmap.DatabaseCache
) -> dict[tuple[int, int], bool]:
    """For well matched pairs of posed pictures whether their matches mostly lead to common points.

    A map that has folded explains each feature by some pictures while whole pairs contradict it.
    """
    points = {
        image_id: np.array([_point(sighting) for sighting in image.points2D], np.int64)
        for image_id, image in model.images.items()
        if image.has_pose
    }
    matches, held = cache.correspondence_graph, {}
    for first, second in map(pycolmap.pair_id_to_image_pair, matches.image_pairs()):
        if first not in points or second not in points:
            continue
        a, b = matches.extract_matches_between_images(first, second).T
        seen = (points[first][a] >= 0) | (points[second][b] >= 0)
        if seen.sum() >= _MIN_POINTS:
            common = (points[first][a] == points[second][b])[seen]
            held[first, second] = bool(common.mean() >= 0.5)
    return held


def _point(sighting: pycolmap.Point2D) -> int:
    return sighting.point3D_id if sighting.has_point3D() else -1
