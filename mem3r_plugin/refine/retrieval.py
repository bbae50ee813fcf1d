"""Keyframes that look alike: where the camera may have come back to a place."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pycolmap
from numpy.typing import NDArray

_WORDS = 64
_SAMPLE = 20_000
_FEATURES = 1024


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
    vectors = np.stack([_aggregate(rows, words) for rows in descriptors])
    vectors -= vectors.mean(axis=0)  # what all pictures share tells none of them apart
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return vectors @ vectors.T


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
