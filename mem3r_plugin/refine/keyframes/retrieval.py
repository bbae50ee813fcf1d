"""Keyframes that look alike: where the camera may have come back to a place."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pycolmap
from numpy.typing import NDArray

from mem3r_plugin.scan import Scan

_PASSAGE = 3  # keyframes before and after one
_WORDS = 64
_SAMPLE = 20_000
_FEATURES = 1024


def network_similarity(scan: Scan, indices: list[int]) -> NDArray[np.float64] | None:
    """How alike places look to the network, shape (n, n), from -1 to 1.

    Args:
        scan: Keeps the network's image-level features.
        indices: Frames in the order of time.

    Returns:
        None where the scan does not keep the feature of every frame.
    """
    features = [feature for i in indices if (feature := scan.feature(i)) is not None]
    return compare_features(np.stack(features)) if len(features) == len(indices) else None


def compare_features(features: NDArray[np.float32]) -> NDArray[np.float64]:
    """How alike places with these features (n, c), in the order of time, are: (n, n), from -1 to 1.

    What all features share is taken off first. A place is known by the passage through it rather than by
    one picture: similarities are averaged along the passage, walked the same way or the other way
    round (after Milford and Wyeth, "SeqSLAM", ICRA 2012).
    """
    vectors = _distinctive(features.astype(np.float64))
    return _along_passages(vectors @ vectors.T)


def picture_similarity(database: Path, names: list[str]) -> NDArray[np.float64]:
    """How alike the pictures of a COLMAP database look, shape (n, n), from -1 to 1.

    Pictures are compared by their vectors of locally aggregated descriptors (Jégou et al.,
    "Aggregating local descriptors into a compact image representation", CVPR 2010) over the SIFT features
    that are there anyway: unlike a network's features they do not depend on trained weights.
    """
    descriptors = _descriptors(database, names)
    everything = np.concatenate(descriptors)
    if len(everything) < _WORDS:
        return np.zeros((len(names), len(names)))
    words = _vocabulary(everything)
    vectors = _distinctive(np.stack([_aggregate(rows, words) for rows in descriptors]))
    return vectors @ vectors.T


def _distinctive(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit vectors (n, c) of what tells each vector from the mean of all."""
    apart = vectors - vectors.mean(axis=0)
    return apart / np.maximum(np.linalg.norm(apart, axis=1, keepdims=True), 1e-9)


def _along_passages(similarity: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean similarity of the passages around every pair, the better of both directions."""
    together = np.eye(2 * _PASSAGE + 1) / (2 * _PASSAGE + 1)
    border = cv2.BORDER_REPLICATE
    same_way = cv2.filter2D(similarity, -1, together, borderType=border)
    back = cv2.filter2D(similarity, -1, together[::-1].copy(), borderType=border)
    return np.asarray(np.maximum(same_way, back))


def _descriptors(database: Path, names: list[str]) -> list[NDArray[np.float32]]:
    with pycolmap.Database.open(database) as opened:
        ids = {image.name: image.image_id for image in opened.read_all_images()}
        return [_unit(opened.read_descriptors(ids[name]).data[:_FEATURES]) for name in names]


def _unit(descriptors: NDArray[np.uint8]) -> NDArray[np.float32]:
    rows = descriptors.astype(np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


def _vocabulary(descriptors: NDArray[np.float32]) -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    count = min(_SAMPLE, len(descriptors))
    sample = descriptors[rng.choice(len(descriptors), count, replace=False)]
    cv2.setRNGSeed(0)
    stop = (cv2.TERM_CRITERIA_MAX_ITER, 10, 0)
    return np.asarray(cv2.kmeans(sample, _WORDS, None, stop, 1, cv2.KMEANS_PP_CENTERS)[2])


def _aggregate(descriptors: NDArray[np.float32], words: NDArray[np.float32]) -> NDArray[np.float64]:
    """Sum of the residuals to the nearest word, each word's normalised, shape (words * 128,)."""
    sums = np.zeros(words.shape)
    if len(descriptors):
        nearest = np.argmax(descriptors @ words.T - (words**2).sum(axis=1) / 2, axis=1)
        np.add.at(sums, nearest, descriptors - words[nearest])
    sums /= np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)
    return sums.ravel()
