import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mem3r_plugin.geometry.alignment import Similarity
from mem3r_plugin.geometry.pose import rotation_angle
from mem3r_plugin.refine.graph.pose_graph import (
    OUTLIER,
    STILL,
    Edge,
    compose,
    invert,
    solve_pose_graph,
    whitening,
)
from tests.refine.random_poses import random_poses

ROOT = whitening(np.diag([1e-2**2] * 3 + [2e-2**2] * 3), 1e-2)


def bodies_at_random(count, seed):
    """Bodies to world; the first is the world."""
    rng = np.random.default_rng(seed)
    placed = [
        Similarity(float(np.exp(0.3 * rng.normal())), pose[:3, :3], pose[:3, 3])
        for pose in random_poses(count, seed)
    ]
    return [compose(invert(placed[0]), body) for body in placed]


def noisy(motion, rng, amount=1.0):
    """A motion with the errors that `ROOT` promises."""
    error = amount * np.linalg.solve(ROOT, rng.normal(size=7))
    angle = np.linalg.norm(error[:3])
    axis = error[:3] / max(angle, 1e-12)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    turn = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return Similarity(
        float(motion.scale * np.exp(error[6])),
        motion.rotation @ turn,
        motion.translation + error[3:6],
    )


def between(bodies, first, second):
    return compose(invert(bodies[first]), bodies[second])


def close(found, expected, tolerance=1e-6):
    return (
        rotation_angle(found.rotation.T @ expected.rotation) < tolerance
        and np.allclose(found.translation, expected.translation, atol=tolerance)
        and np.isclose(found.scale, expected.scale, atol=tolerance)
    )


@given(st.integers(0, 1000))
def test_motions_compose_and_invert_as_points_move(seed):
    first, second = bodies_at_random(3, seed)[1:]
    points = np.random.default_rng(seed).normal(size=(5, 3))
    assert np.allclose(compose(first, second).points(points), first.points(second.points(points)))
    assert np.allclose(invert(first).points(first.points(points)), points)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_exact_edges_give_the_exact_places_of_bodies_with_several_frames(seed):
    rng = np.random.default_rng(seed)
    bodies = bodies_at_random(6, seed)
    inside = bodies_at_random(12, seed + 1)[1:]
    edges = []
    for second in range(1, 6):
        for _ in range(2):
            first = int(rng.integers(second))
            ours, theirs = (inside[i] for i in rng.integers(len(inside), size=2))
            motion = between([compose(bodies[first], ours), compose(bodies[second], theirs)], 0, 1)
            edges.append(Edge(first, second, motion, ROOT, False, ours, theirs))
    solved = solve_pose_graph(6, edges)
    assert all(close(*pair) for pair in zip(solved.bodies, bodies, strict=True))
    assert solved.residuals.max() < 1e-6


def ring(count, seed, false_loops):
    """A ring walked twice, seen with noise; false loops among the true ones."""
    rng = np.random.default_rng(seed)
    angle = np.linspace(0, 4 * np.pi, count)
    turns = np.zeros((count, 3, 3))
    turns[:, 0, 0] = turns[:, 2, 2] = np.cos(angle)
    turns[:, 0, 2], turns[:, 2, 0], turns[:, 1, 1] = np.sin(angle), -np.sin(angle), 1
    centres = 5 * np.stack([np.sin(angle), 0 * angle, np.cos(angle)], axis=1)
    placed = [Similarity(1.0, turn, at) for turn, at in zip(turns, centres, strict=True)]
    bodies = [compose(invert(placed[0]), body) for body in placed]
    edges = [
        Edge(i, i + gap, noisy(between(bodies, i, i + gap), rng), ROOT)
        for gap in (1, 2)
        for i in range(count - gap)
    ]
    half = count // 2
    true = [
        Edge(i, i + half, noisy(between(bodies, i, i + half), rng), ROOT, True)
        for i in range(0, half, 3)
    ]
    false = [
        Edge(int(i), int(j), noisy(STILL, rng), ROOT, True)
        for i, j in rng.integers([0, half], [half // 2, half + half // 2], (false_loops, 2))
    ]
    return bodies, edges, true, false


def drift(solved, bodies):
    found, true = (
        np.array([body.translation for body in each]) for each in (solved.bodies, bodies)
    )
    return float(np.sqrt(((found - true) ** 2).sum(axis=1).mean()))


@pytest.mark.parametrize("seed", range(3))
def test_loops_repair_drift_and_false_ones_are_found_out(seed):
    bodies, edges, true, false = ring(80, seed, 6)
    open_ended = solve_pose_graph(80, edges)
    closed = solve_pose_graph(80, edges + true + false)
    assert drift(closed, bodies) < 0.6 * drift(open_ended, bodies)
    residuals = closed.residuals[len(edges) :]
    assert (residuals[: len(true)] < OUTLIER).mean() > 0.9  # of chi(7), 1 % lies beyond
    assert (residuals[len(true) :] > OUTLIER).all()
    clean = solve_pose_graph(80, edges + true)
    assert drift(closed, bodies) == pytest.approx(drift(clean, bodies), rel=0.05)


def test_the_same_graph_gives_the_same_answer():
    _, edges, true, false = ring(40, 0, 3)
    first, second = (solve_pose_graph(40, edges + true + false) for _ in range(2))
    assert np.array_equal(first.residuals, second.residuals)


def test_a_body_that_nothing_holds_is_named():
    with pytest.raises(ValueError, match="1 of 3 bodies"):
        solve_pose_graph(3, [Edge(0, 1, STILL, ROOT)])
