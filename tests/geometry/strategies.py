"""What the property tests draw from."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mem3r_plugin.geometry import ImageTransform, Intrinsics
from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.geometry.pose import pose_matrix, rotation_from_quaternion

sides = st.integers(2, 40)
lengths = st.floats(-10, 10)


@st.composite
def intrinsics(draw: st.DrawFn, width: int | None = None, height: int | None = None) -> Intrinsics:
    width, height = width or draw(sides), height or draw(sides)
    fx, fy = draw(st.floats(5, 500)), draw(st.floats(5, 500))
    cx, cy = draw(st.floats(0, width)), draw(st.floats(0, height))
    return Intrinsics(fx, fy, cx, cy, width, height)


@st.composite
def transforms(draw: st.DrawFn, start: ImageTransform | None = None) -> ImageTransform:
    record = start or ImageTransform.identity((draw(sides), draw(sides)))
    for step in draw(st.lists(st.sampled_from(["turn", "mirror", "resize", "crop", "pad"]))):
        match step:
            case "turn":
                record = record.rotated(draw(st.integers(-4, 4)))
            case "mirror":
                record = record.mirrored()
            case "resize":
                record = record.resized(draw(sides), draw(sides))
            case "crop":
                width, height = record.target_size
                left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
                box = draw(st.integers(1, width - left)), draw(st.integers(1, height - top))
                record = record.cropped(left, top, *box)
            case "pad":
                record = record.padded(*(draw(st.integers(0, 5)) for _ in range(4)))
    return record


@st.composite
def quaternions(draw: st.DrawFn) -> FloatArray:
    values = draw(arrays(np.float64, 4, elements=st.floats(-1, 1)))
    norm = float(np.linalg.norm(values))
    return values / norm if norm > 1e-3 else np.array([1.0, 0.0, 0.0, 0.0])


rotations = quaternions().map(rotation_from_quaternion)
translations = arrays(np.float64, 3, elements=lengths)
poses = st.builds(pose_matrix, rotations, translations)


def points(minimum: int = 1, maximum: int = 20) -> st.SearchStrategy[FloatArray]:
    """Point sets (n, 3)."""
    shapes = st.tuples(st.integers(minimum, maximum), st.just(3))
    return arrays(np.float64, shapes, elements=lengths)


def visible_points() -> st.SearchStrategy[FloatArray]:
    """Point sets (n, 3) in front of the camera."""
    return points().map(lambda p: np.concatenate([p[:, :2], np.abs(p[:, 2:]) + 0.5], axis=1))
