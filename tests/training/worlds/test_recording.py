from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mem3r_plugin.errors import OutputError
from mem3r_plugin.evaluation.sequence import PosedSequence
from mem3r_plugin.training.worlds import KINDS, sample_sequence, write_sequence


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_reads_back(tmp_path, kind):
    views = sample_sequence(2, 3, (64, 48), kind)
    write_sequence(views, tmp_path / "clip", fps=10)
    clip = PosedSequence.load(tmp_path / "clip")
    assert len(clip) == 3
    assert clip.intrinsics == views.intrinsics
    np.testing.assert_allclose(clip.timestamps, [0, 0.1, 0.2])
    np.testing.assert_allclose(clip.camera_to_world, views.camera_to_world, atol=1e-10)
    for index in range(3):
        np.testing.assert_allclose(clip.depth(index), views.depth[index], atol=2.1e-3)
        picture = np.asarray(Image.open(clip.images[index])) / 255
        expected = views.images[index].permute(1, 2, 0)
        np.testing.assert_allclose(picture, expected, atol=0.5 / 255 + 1e-6)


def test_depth_beyond_sixteen_bits_is_unknown(tmp_path):
    views = sample_sequence(2, 1, (64, 48), "room")
    far = views.depth.clone()
    far[0, 0, 0] = 300.0
    write_sequence(replace(views, depth=far), tmp_path)
    depth = PosedSequence.load(tmp_path).depth(0)
    assert depth[0, 0] == 0
    np.testing.assert_allclose(depth[1:], far[0, 1:], atol=2.1e-3)


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(OutputError, match="taken"):
        write_sequence(sample_sequence(2, 1, (64, 48), "room"), tmp_path / "taken")
