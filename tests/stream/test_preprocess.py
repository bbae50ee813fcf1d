import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mem3r_plugin.errors import ConfigError, SourceError
from mem3r_plugin.stream.preprocess import Preprocessor, to_network_input
from tests.golden_functions import golden_function_cases, golden_functions
from tests.stream.pictures import picture

sides = st.integers(40, 400)
sizes = st.integers(2, 12).map(lambda patches: 16 * patches)


def test_pictures_match_the_reference_bit_by_bit() -> None:
    golden = golden_functions()
    for case in golden_function_cases()["prep_cases"]:
        name = f"prep.{case['case']}"
        preprocess = Preprocessor(case["size"], square_crop=case["size"] == 224)
        made, transform = preprocess(golden[f"{name}.in"])
        np.testing.assert_array_equal(made.transpose(2, 0, 1)[None], golden[f"{name}.out_u8"])
        assert transform.source_size == (case["w"], case["h"])
        assert transform.target_size == tuple(case["out_hw"][::-1])
        if f"{name}.out" in golden:
            values = to_network_input(made)[None].numpy()
            np.testing.assert_array_equal(values, golden[f"{name}.out"])


@given(width=sides, height=sides, size=sizes, square_ok=st.booleans(), square_crop=st.booleans())
def test_every_size_comes_out_in_whole_patches(
    width: int, height: int, size: int, square_ok: bool, square_crop: bool
) -> None:
    preprocess = Preprocessor(size, square_ok=square_ok, square_crop=square_crop)
    try:
        made, transform = preprocess(picture(width, height))
    except SourceError:
        assert size * min(width, height) / max(width, height) < 17
        return
    assert transform.source_size == (width, height)
    assert transform.target_size == (made.shape[1], made.shape[0])
    assert made.shape[0] % 16 == made.shape[1] % 16 == 0
    if square_crop:
        assert made.shape[:2] == (size, size)
    else:
        assert max(made.shape) == size or width == height
    if not (square_ok or square_crop) and size > 16:
        assert made.shape[0] != made.shape[1]


@given(width=sides, height=sides, size=st.just(16) | sizes)
def test_pictures_of_the_same_area_have_about_as_many_patches(
    width: int, height: int, size: int
) -> None:
    made, transform = Preprocessor(size, same_area=True)(picture(width, height))
    assert transform.target_size == (made.shape[1], made.shape[0])
    assert made.shape[0] % 16 == made.shape[1] % 16 == 0
    most = (size // 16) * max(1, size * 3 // 4 // 16)
    assert 0.8 * most <= made.shape[0] * made.shape[1] / 256 <= most
    scale_x, scale_y = transform.matrix[0][0], transform.matrix[1][1]
    assert scale_x / scale_y == pytest.approx(1, rel=0.5 / min(made.shape[:2]) + 0.01)
    corner = transform.inverse.pixels(np.array([[0.0, 0.0], transform.target_size]))
    assert (corner > -1e-6).all()
    assert (corner <= np.array([width, height]) + 1e-6).all()


@pytest.mark.parametrize(
    ("source", "made"),
    [
        ((640, 480), (128, 96)),
        ((480, 640), (96, 128)),
        ((1920, 1080), (144, 80)),
        ((1080, 1920), (80, 144)),
        ((6000, 4000), (128, 80)),
        ((1226, 370), (192, 64)),
    ],
)
def test_shapes_of_the_same_area(source: tuple[int, int], made: tuple[int, int]) -> None:
    assert Preprocessor(128, same_area=True).transform(source).target_size == made


@given(width=sides, height=sides, size=sizes)
def test_the_record_says_where_the_pixels_came_from(width: int, height: int, size: int) -> None:
    """The picture's red is its x, its green its y: the made pixels must say the same as the record.

    In the middle, where no resampling filter runs over the picture's edge.
    """
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    ramp = np.dstack([x / width * 200 + 20, y / height * 200 + 20, 0 * x + 99])
    try:
        made, transform = Preprocessor(size)(np.rint(ramp).astype(np.uint8))
    except SourceError:
        return
    columns, rows = np.meshgrid(np.arange(made.shape[1]) + 0.5, np.arange(made.shape[0]) + 0.5)
    source = transform.inverse.pixels(np.stack([columns, rows], axis=-1))
    expected = source / (width, height) * 200 + 20
    middle = tuple(slice(side // 3, -side // 3) for side in made.shape[:2])
    np.testing.assert_allclose(made[middle][..., :2], expected[middle], atol=2.0)


@given(width=sides, height=sides, size=sizes)
def test_the_cut_is_in_the_middle(width: int, height: int, size: int) -> None:
    try:
        transform = Preprocessor(size).transform((width, height))
    except SourceError:
        return
    middle = transform.inverse.pixels(np.array(transform.target_size) / 2)
    half_a_pixel = 0.5 / np.diag(np.array(transform.matrix)[:, :2])
    assert (np.abs(middle - (width / 2, height / 2)) <= half_a_pixel + 1e-9).all()


@pytest.mark.parametrize("size", [32, 48, 96, 224, 512])
def test_a_square_is_cut_to_whole_patches_near_4_to_3(size: int) -> None:
    made, _ = Preprocessor(size)(picture(100, 100))
    assert made.shape[1] == size
    assert made.shape[0] == size * 3 // 4 // 16 * 16


def test_a_square_may_stay_square() -> None:
    made, _ = Preprocessor(96, square_ok=True)(picture(100, 100))
    assert made.shape == (96, 96, 3)


def test_size_224_keeps_the_shape_unless_a_square_is_asked_for() -> None:
    assert Preprocessor(224)(picture(400, 300))[0].shape == (160, 224, 3)
    assert Preprocessor(224, square_crop=True)(picture(400, 300))[0].shape == (224, 224, 3)


@pytest.mark.parametrize("size", [0, 8, 100, -16])
def test_a_size_that_is_no_whole_number_of_patches_is_refused(size: int) -> None:
    with pytest.raises(ConfigError, match=f"size is {size}, it must be a multiple of 16"):
        Preprocessor(size)


def test_a_picture_too_narrow_is_refused() -> None:
    with pytest.raises(SourceError, match="1000x20 becomes 512x10 at size 512"):
        Preprocessor(512).transform((1000, 20))


def test_to_network_input_takes_stacks() -> None:
    stack: NDArray[np.uint8] = np.stack([picture(seed=0), picture(seed=1)])
    values = to_network_input(stack)
    assert values.shape == (2, 3, 24, 32)
    assert values.is_contiguous()
    np.testing.assert_allclose(values[1, 2].numpy(), stack[1, ..., 2] / 127.5 - 1, atol=1e-6)
