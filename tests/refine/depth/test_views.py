import numpy as np
import torch
from hypothesis import given

from mem3r_plugin.geometry import Intrinsics
from mem3r_plugin.geometry.camera import FloatArray
from mem3r_plugin.geometry.pose import invert_pose, transform_points
from mem3r_plugin.refine.depth.consistency import cross_check, project_depth
from mem3r_plugin.refine.depth.views import View, projection_line, sample
from tests.geometry.strategies import intrinsics, poses
from tests.refine import stereo_room


@given(intrinsics(), intrinsics(), poses, poses)
def test_a_projection_line_follows_the_point_of_every_depth(
    camera: Intrinsics, other_camera: Intrinsics, pose: FloatArray, other_pose: FloatArray
) -> None:
    reference = View(torch.zeros(camera.height, camera.width), camera, pose)
    other = View(torch.zeros(other_camera.height, other_camera.width), other_camera, other_pose)
    start, step = projection_line(reference, other)
    depth = 2.5
    line = (start + step / depth).double().numpy()
    world = transform_points(pose, camera.unproject_depth(np.full(reference.grey.shape, depth)))
    seen = transform_points(invert_pose(other_pose), world)
    expected = np.moveaxis(seen @ other_camera.matrix.T / depth, -1, 0)
    np.testing.assert_allclose(line, expected, atol=1e-5 * (1 + np.abs(expected).max()))


def test_sampling_at_pixel_centres_changes_nothing() -> None:
    values = torch.rand(7, 9)
    centres = torch.from_numpy(Intrinsics.centred(5.0, 9, 7).pixel_centres()).float()
    for mode in ("bilinear", "nearest"):
        torch.testing.assert_close(sample(values, centres[..., 0], centres[..., 1], mode), values)


def test_a_smaller_view_sees_the_same_directions() -> None:
    view = stereo_room.view(0)
    small = view.smaller(2)
    assert small.grey.shape == (30, 40)
    corner = np.array([[0.0, 0.0], [80.0, 60.0]])
    np.testing.assert_allclose(
        view.camera.unproject(corner, np.ones(2)), small.camera.unproject(corner / 2, np.ones(2))
    )


def test_true_depths_confirm_each_other_and_false_ones_do_not() -> None:
    depths = [torch.from_numpy(1 / stereo_room.true_depth(i)).float() for i in range(3)]
    others = [(stereo_room.view(i), depths[i]) for i in (1, 2)]
    _, agreeing = cross_check(stereo_room.view(0), depths[0], others, 0.03)
    assert (agreeing == 2).float().mean() > 0.8
    _, agreeing = cross_check(stereo_room.view(0), 1.2 * depths[0], others, 0.03)
    assert (agreeing == 2).float().mean() < 0.02


def test_confirming_views_average_out_errors() -> None:
    truth = [torch.from_numpy(1 / stereo_room.true_depth(i)).float() for i in range(3)]
    others = [(stereo_room.view(i), truth[i]) for i in (1, 2)]
    averaged, agreeing = cross_check(stereo_room.view(0), 1.02 * truth[0], others, 0.05)
    error = (averaged / truth[0] - 1)[agreeing == 2].abs().median()
    assert error < 0.01


def test_projected_depth_is_what_the_other_view_sees() -> None:
    source, target = stereo_room.view(0), stereo_room.view(1)
    inverse = torch.from_numpy(1 / stereo_room.true_depth(0)).float()
    seen = project_depth(source, inverse, target)
    hit = seen > 0
    assert hit.float().mean() > 0.6
    error = (seen * torch.from_numpy(stereo_room.true_depth(1)).float() - 1)[hit].abs()
    assert error.median() < 0.01


def test_what_is_in_front_hides_what_is_behind() -> None:
    camera = Intrinsics.centred(10.0, 4, 4)
    view = View(torch.zeros(4, 4), camera, np.eye(4))
    further = np.eye(4)
    further[2, 3] = -30.0  # so far back that all pixels fall together
    target = View(torch.zeros(4, 4), camera, further)
    depth = torch.full((4, 4), 5.0)
    depth[1, 1] = 4.0
    seen = project_depth(view, 1 / depth, target)
    torch.testing.assert_close(seen.max(), torch.tensor(1 / 34.0))
