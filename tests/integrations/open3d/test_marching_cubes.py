from collections import Counter

import cv2  # noqa: F401 - before Open3D
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mem3r_open3d.marching_cubes import marching_cubes

EDGE = 9


def surface(tsdf: np.ndarray, first: tuple[float, float, float] = (0, 0, 0), voxel: float = 1.0):
    color = np.zeros((*tsdf.shape, 3), np.float32)
    color[..., 0] = np.arange(len(tsdf))  # red rises along x
    return marching_cubes(tsdf.astype(np.float32), color, np.array(first, np.float64), voxel)


def directed_edges(faces: np.ndarray) -> Counter[tuple[int, int]]:
    return Counter(
        (int(a), int(b)) for face in faces for a, b in zip(face, np.roll(face, -1), strict=True)
    )


levels = st.sampled_from([-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0])


@settings(max_examples=60)
@given(arrays.arrays(np.float32, (EDGE - 4,) * 3, elements=st.floats(-1, 1, width=32)))
def test_any_field_has_a_closed_surface_whose_triangles_all_face_out(inside):
    inside[np.abs(inside) < 1e-3] = 1e-3
    tsdf = np.ones((EDGE,) * 3, np.float32)
    tsdf[2:-2, 2:-2, 2:-2] = inside
    *_, faces, _ = surface(tsdf)
    edges = directed_edges(faces)
    assert all(count == 1 and edges[b, a] == 1 for (a, b), count in edges.items())


@settings(max_examples=60)
@given(arrays.arrays(np.float32, (EDGE - 4,) * 3, elements=levels))
def test_where_it_goes_through_voxels_there_is_one_vertex_in_a_place(inside):
    tsdf = np.ones((EDGE,) * 3, np.float32)
    tsdf[2:-2, 2:-2, 2:-2] = inside
    positions, _, _, faces, _ = surface(tsdf)
    assert len(np.unique(positions, axis=0)) == len(positions)
    assert (faces != np.roll(faces, 1, axis=1)).all()
    edges = directed_edges(faces)  # closed: as many triangles on this side of an edge as on that
    assert all(count == edges[b, a] for (a, b), count in edges.items())


def test_a_ball_has_its_radius_its_normals_and_its_colours():
    z, y, x = np.indices((21,) * 3) - 10.0
    tsdf = (np.sqrt(x**2 + y**2 + z**2) - 6) / 4
    positions, normals, colors, _, shared = surface(tsdf, (-10, -10, -10))
    assert np.allclose(np.linalg.norm(positions, axis=1), 6, atol=0.05)
    assert (np.sum(normals * positions, axis=1) / 6 > 0.98).all()
    assert np.allclose(colors[:, 0], positions[:, 0] + 10, atol=1e-4)
    assert not shared.any()


def test_nothing_is_made_of_what_was_not_seen():
    tsdf = np.broadcast_to(np.linspace(-1, 1, EDGE)[:, None, None] + 0.01, (EDGE,) * 3).copy()
    whole = surface(tsdf)
    tsdf[:, :, 4] = np.nan
    holed = surface(tsdf)
    assert len(holed[3]) == len(whole[3]) * (EDGE - 5) // (EDGE - 3)
    assert (np.abs(holed[0][:, 0] - 4) >= 1).all()


@settings(max_examples=30)
@given(arrays.arrays(np.float32, (EDGE, EDGE, 2 * EDGE - 3), elements=levels))
def test_pieces_side_by_side_meet_in_the_same_vertices_and_know_which(field):
    low = EDGE - 3  # the cubes of the second piece begin where those of the first one end
    first, second = (
        surface(field[:, :, start : start + EDGE].copy(), (start, 0, 0), 0.1) for start in (0, low)
    )
    everything = [{tuple(place) for place in piece[0]} for piece in (first, second)]
    shared = [{tuple(place) for place in piece[0][piece[4]]} for piece in (first, second)]
    assert everything[0] & everything[1] == shared[0] & shared[1]
