"""How well places are found again: `python benchmarks/retrieval.py SCAN SEQUENCE --work FOLDER`.

Every `--stride`-th frame is a keyframe. Pairs that matching by order leaves out are suggested by the
network's features, by those of the same network with random weights, by local features, and by all that
`refine` asks. A suggestion is right where the pictures truly share a quarter of what they show.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pycolmap
import torch
import tyro
from numpy.typing import NDArray

from mem3r_plugin.evaluation import PosedSequence
from mem3r_plugin.evaluation.scan import match_frames
from mem3r_plugin.geometry.pose import invert_pose, transform_points
from mem3r_plugin.model.network import ReconstructionNetwork, initialise
from mem3r_plugin.model.weights import load_network
from mem3r_plugin.refine.keyframes.matching import MatchingConfig, Pairs, extract_features
from mem3r_plugin.refine.keyframes.overlap import predicted_overlap
from mem3r_plugin.refine.keyframes.pairs import best_pairs, choose_pairs, sequential_pairs
from mem3r_plugin.refine.keyframes.retrieval import (
    compare_features,
    network_similarity,
    picture_similarity,
)
from mem3r_plugin.scan import Scan
from mem3r_plugin.stream.image_feature import image_feature
from mem3r_plugin.stream.preprocess import Preprocessor, to_network_input

_SHARED = 0.25
_SAMPLES = 16  # along each side of a picture
_SAME_DEPTH = 0.1  # relative


@dataclass(frozen=True)
class Retrieval:
    """Count right and wrong suggestions."""

    scan: tyro.conf.Positional[Path]
    """What `mem3r run` made of the sequence."""
    sequence: tyro.conf.Positional[Path]
    """The sequence, with poses and depth."""
    work: Path
    """Folder for pictures and features."""
    stride: int = 4
    """Frames from one keyframe to the next."""

    def __call__(self) -> None:
        """Print one line for each way to suggest pairs."""
        torch.set_num_threads(1)
        pycolmap.logging.minloglevel = 2
        scan, sequence = Scan.open(self.scan), PosedSequence.load(self.sequence)
        indices = list(range(0, len(scan), self.stride))
        database, names = self._features(scan, indices)
        config = MatchingConfig()
        known = sequential_pairs(len(indices), config.sequential)
        shared = true_overlap(sequence, match_frames(scan, sequence)[indices].tolist())
        network, local = network_similarity(scan, indices), picture_similarity(database, names)
        assert network is not None, f"{self.scan} keeps no features: make it again"
        ways = {
            "predicted overlap": best_pairs(predicted_overlap(scan, indices), config.loops, known),
            "network's features": best_pairs(network, config.loops, known),
            "random weights": best_pairs(random_similarity(scan, indices), config.loops, known),
            "local features": best_pairs(local, config.loops, known),
            "refine": choose_pairs(scan, database, names, config)[1],
        }
        for name, pairs in ways.items():
            print(f"{name:20} {judge(pairs, known, shared)}")

    def _features(self, scan: Scan, indices: list[int]) -> tuple[Path, list[str]]:
        pictures, database = self.work / "pictures", self.work / "database.db"
        pictures.mkdir(parents=True, exist_ok=True)
        database.unlink(missing_ok=True)
        names = [f"{index:06d}.png" for index in indices]
        for index, name in zip(indices, names, strict=True):
            cv2.imwrite(str(pictures / name), cv2.cvtColor(scan.image(index), cv2.COLOR_RGB2GRAY))
        limit = MatchingConfig().max_features
        extract_features(database, pictures, names, scan.camera, False, limit)
        return database, names


def judge(pairs: Pairs, known: Pairs, shared: NDArray[np.float64]) -> str:
    """How many suggestions there are, how many are right, and how many keyframes get a right one."""
    right: NDArray[np.bool_] = np.greater_equal(shared, _SHARED)
    np.fill_diagonal(right, False)
    rows, columns = np.array(sorted(known)).T
    right[rows, columns] = right[columns, rows] = False
    suggested = np.zeros_like(right)
    rows, columns = np.array(sorted(pairs)).T
    suggested[rows, columns] = suggested[columns, rows] = True
    hits = suggested & right
    helped, could = (np.count_nonzero(which.any(axis=1)) for which in (hits, right))
    return (
        f"{len(pairs):4} suggested, {hits.sum() // 2:4} right ({hits.sum() / suggested.sum():.0%}); "
        f"a right one for {helped} of the {could} keyframes that have one"
    )


def random_similarity(scan: Scan, indices: list[int]) -> NDArray[np.float64]:
    """What the network would find alike had it learnt nothing."""
    torch.manual_seed(0)
    config = load_network(str(scan.header.model["name"]), device=torch.device("cpu")).config
    network = ReconstructionNetwork(config).eval()
    initialise(network)
    preprocess = Preprocessor.of(config, scan.header.settings["size"])
    features = []
    with torch.inference_mode():
        for index in indices:
            pixels = to_network_input(preprocess(scan.image(index))[0])
            features.append(image_feature(network.encode(pixels[None])[0]))
    return compare_features(np.stack(features))


def true_overlap(sequence: PosedSequence, rows: list[int]) -> NDArray[np.float64]:
    """Share of each picture whose surface the other sees too, the smaller of both, shape (n, n)."""
    camera = sequence.intrinsics
    grid = np.ix_(
        np.linspace(0, camera.height - 1, _SAMPLES).round().astype(int),
        np.linspace(0, camera.width - 1, _SAMPLES).round().astype(int),
    )
    depth = [sequence.depth(row) for row in rows]
    poses = sequence.camera_to_world[rows]
    shared = np.zeros((len(rows), len(rows)))
    for i, pose in enumerate(poses):
        seen = depth[i][grid] > 0
        local = camera.unproject(camera.pixel_centres()[grid], depth[i][grid])[seen]
        world = transform_points(pose, local)
        for j, other in enumerate(invert_pose(poses)):
            points = transform_points(other, world)
            points = points[points[:, 2] > 0]
            pixels = camera.project(points)
            inside = camera.contains(pixels)
            column, row = np.floor(pixels[inside]).astype(int).T
            z = points[inside, 2]
            same = (np.abs(depth[j][row, column] - z) < _SAME_DEPTH * z).sum()
            shared[i, j] = same / max(len(world), 1)
    return np.minimum(shared, shared.T)


if __name__ == "__main__":
    tyro.cli(Retrieval)()
