"""Keyframes mapped, and mapped again without false loops where the first map contradicts its matches."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pycolmap
from numpy.typing import NDArray

from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.progress import ProgressCallback
from mem3r_plugin.refine.depth.network import sample_depth
from mem3r_plugin.refine.graph.edges import MatchedPair
from mem3r_plugin.refine.graph.keyframe_graph import KeyframeGraph, place_keyframes
from mem3r_plugin.refine.graph.loops import explained_pairs
from mem3r_plugin.refine.keyframes.picture_names import frame_of
from mem3r_plugin.refine.mapping.map_store import load_maps, save_maps
from mem3r_plugin.refine.mapping.structure import MappingConfig, SparseMap, map_keyframes
from mem3r_plugin.refine.straight import StraightScan
from mem3r_plugin.refine.undistort import Undistortion
from mem3r_plugin.scan import Scan

_EXPLAINED = 0.9  # share of the pairs; a map that explains fewer may hang on false loops


def map_scan(
    scan: Scan,
    workspace: Path,
    keyframes: Sequence[int],
    matches: Sequence[MatchedPair],
    config: MappingConfig,
    progress: ProgressCallback,
) -> list[SparseMap]:
    """The map of a scan, largest piece first; what is done is kept in the workspace.

    A pose graph gives the mapper its start. If the map does not explain all matches, the graph is
    solved again with the camera that was found: matches over a long way that contradict it are then
    left out of a second map, which starts from the graph. The map that explains more matches, the left
    out ones included, is taken: corridors whose walls look alike are brought apart that way.
    """
    final, first = workspace / "maps.npz", workspace / "maps-first.npz"
    if final.exists():
        return load_maps(final)
    if not matches:
        return []
    mapper = _Mapper(scan, workspace, keyframes, matches, config, progress)
    if first.exists():
        maps = load_maps(first)
    else:
        maps = mapper.map(workspace / "database.db", mapper.graph(scan.camera, None))
        save_maps(maps, first)
    if maps and mapper.explained(maps[0]).mean() < _EXPLAINED:
        again = mapper.without_false_loops(maps[0])
        if again and mapper.explained_matches(again[0]) > mapper.explained_matches(maps[0]):
            maps = again
    save_maps(maps, final)
    return maps


def straightened(
    scan: Scan, matches: Sequence[MatchedPair], undistortion: Undistortion | None
) -> tuple[Scan, Sequence[MatchedPair]]:
    """A scan and its matches as the pinhole camera of a map sees them."""
    if undistortion is None:
        return scan, matches
    straight = [
        replace(
            pair,
            first_pixels=undistortion.pixels(pair.first_pixels),
            second_pixels=undistortion.pixels(pair.second_pixels),
        )
        for pair in matches
    ]
    return StraightScan(scan, undistortion), straight


class _Mapper:
    def __init__(
        self,
        scan: Scan,
        workspace: Path,
        keyframes: Sequence[int],
        matches: Sequence[MatchedPair],
        config: MappingConfig,
        progress: ProgressCallback,
    ) -> None:
        self._scan, self._workspace, self._keyframes = scan, workspace, keyframes
        self._matches, self._config, self._progress = matches, config, progress

    def graph(self, camera: Intrinsics, undistortion: Undistortion | None) -> KeyframeGraph:
        """The pose graph at a camera."""
        self._progress(f"solving the pose graph of {len(self._keyframes)} keyframes", 0, 0)
        scan, matches = straightened(self._scan, self._matches, undistortion)
        predicted = np.stack([frame.camera_to_world for frame in scan.frames])
        depth = partial(sample_depth, scan)
        return place_keyframes(camera, self._keyframes, matches, predicted, depth)

    def map(self, database: Path, graph: KeyframeGraph) -> list[SparseMap]:
        """A map of the matches in a database."""
        self._progress(f"mapping {len(self._keyframes)} keyframes", 0, 0)
        return map_keyframes(
            database,
            self._workspace / "pictures",
            self._workspace / "mapping",
            self._scan.header.camera_origin == "given",
            graph.camera_to_world,
            self._config,
        )

    def without_false_loops(self, found: SparseMap) -> list[SparseMap]:
        """The map of those matches that agree with the graph at the camera of a first map."""
        graph = self.graph(found.camera, found.undistortion)
        database = self._workspace / "consistent.db"
        shutil.copyfile(self._workspace / "database.db", database)
        with pycolmap.Database.open(database) as opened:
            ids = {frame_of(image.name): image.image_id for image in opened.read_all_images()}
            for first, second in sorted(graph.contradicted):
                opened.delete_two_view_geometry(ids[first], ids[second])
        return self.map(database, graph)

    def explained(self, found: SparseMap) -> NDArray[np.bool_]:
        """Which pairs of keyframes a map explains, (P,)."""
        _, matches = straightened(self._scan, self._matches, found.undistortion)
        return explained_pairs(found.camera, found.poses, matches)

    def explained_matches(self, found: SparseMap) -> int:
        """Matches in the pairs that a map explains."""
        counts = np.array([len(pair.first_pixels) for pair in self._matches])
        return int(counts[self.explained(found)].sum())
