"""The records and pixel codes of a scan survive storing as far as they promise."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mem3r_plugin.geometry import ImageTransform, Intrinsics
from mem3r_plugin.scan.format import (
    DEPTH_HEADROOM,
    ScanFrame,
    ScanGeometry,
    ScanHeader,
    choose_depth_unit,
    decode_confidence,
    decode_depth,
    encode_confidence,
    encode_depth,
)
from tests.scan.estimates import header

depths = hnp.arrays(np.float32, (6, 8), elements=st.just(0.0) | st.floats(2**-20, 2**20, width=32))
finite = st.floats(-1e9, 1e9)


@given(depths)
def test_depth_is_stored_to_half_a_step_and_none_stays_none(depth):
    unit = choose_depth_unit(depth)
    code, too_far = encode_depth(depth, unit)
    stored = decode_depth(code, unit)
    assert code.dtype == np.uint16
    np.testing.assert_array_equal(stored == 0, depth == 0)
    near = (depth > unit / 2) & ~too_far
    rounding = 1e-6 * depth[near]  # the float32 that comes back
    assert (np.abs(stored - depth)[near] <= unit / 2 + rounding).all()
    assert (stored[too_far] == np.float32(65535 * unit)).all()


@given(depths)
def test_depth_unit_is_a_power_of_ten_with_the_promised_headroom(depth):
    unit = choose_depth_unit(depth)
    exponent = round(math.log10(unit))
    assert unit == float(f"1e{exponent}")
    if (depth > 0).any():
        reach = DEPTH_HEADROOM * np.percentile(depth[depth > 0].astype(np.float64), 99)
        assert reach <= 65535 * unit * (1 + 1e-6)
        assert reach > 65535 * unit / 10 * (1 - 1e-6)  # and no coarser than needed


def test_depths_in_metres_are_stored_in_millimetres():
    assert choose_depth_unit(np.array([[0.5, 2.0], [3.0, 4.0]])) == 0.001
    assert choose_depth_unit(np.zeros((2, 2))) == 0.001


@given(hnp.arrays(np.float64, (50,), elements=st.floats(1, 1e12)))
def test_confidence_is_stored_in_equal_steps_of_its_share(confidence):
    stored = decode_confidence(encode_confidence(confidence)).astype(np.float64)
    assert (stored >= 1).all()
    assert np.isfinite(stored).all()
    assert (np.abs(1 / stored - 1 / confidence) <= 0.5 / 255 + 1e-6).all()
    order = np.argsort(confidence)
    assert (np.diff(stored[order]) >= 0).all()


@given(
    pose=hnp.arrays(np.float64, (4, 4), elements=finite),
    timestamp=st.floats(0, 1e7),
    focal=st.floats(1e-3, 1e6),
    name=st.text(min_size=1).filter(lambda t: t.encode("utf-8", "ignore").decode() == t),
    feature=hnp.arrays(np.float16, st.integers(1, 40), elements=st.floats(-1, 1, width=16)),
)
def test_frame_line_round_trip_is_exact(pose, timestamp, focal, name, feature):
    line = ScanFrame(7, name, timestamp, 21, None, pose, focal, feature).to_line()
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    back = ScanFrame.from_line(line)
    np.testing.assert_array_equal(back.camera_to_world, pose)
    np.testing.assert_array_equal(back.feature, feature)
    assert (back.index, back.name, back.timestamp, back.position, back.image, back.focal) == (
        (7, name, timestamp, 21, None, focal)
    )


@given(scale=st.floats(0.01, 100), unit=st.sampled_from([1e-5, 0.001, 1.0]), fx=st.floats(1, 1e5))
def test_header_round_trip_is_exact(scale, unit, fx):
    transform = ImageTransform.identity((640, 480)).then(
        np.array([[scale, 0, 1.5], [0, scale / 3, -2.25]]), (320, 240)
    )
    geometry = ScanGeometry(unit, Intrinsics(fx, fx / 3, 320.5, 240.25, 640, 480), transform)
    skipped = ({"position": 3, "name": "ü.png", "reason": "is black"},)
    before = header(geometry=geometry, skipped=skipped, clipped_depths=4, complete=True)
    assert ScanHeader.from_json(before.to_json()) == before


def test_header_before_the_first_frame_round_trip():
    assert ScanHeader.from_json(header().to_json()) == header()


@pytest.mark.parametrize("mode", ["shared", "per_frame"])
def test_camera_mode_round_trip(mode):
    assert ScanHeader.from_json(header(camera_mode=mode).to_json()).camera_mode == mode


def test_header_without_camera_mode_is_of_a_shared_camera():
    text = header().to_json()
    old = text.replace(',\n    "mode": "shared"', "")
    assert old != text
    assert ScanHeader.from_json(old) == header()


def test_unknown_camera_mode_is_refused():
    with pytest.raises(ValueError, match="unknown camera mode 'rolling'"):
        ScanHeader.from_json(header().to_json().replace('"shared"', '"rolling"'))


@pytest.mark.parametrize("change", [('"mem3r-scan"', '"other"'), ('"version": 1', '"version": 2')])
def test_other_formats_and_versions_are_refused(change):
    with pytest.raises(ValueError, match="mem3r-scan"):
        ScanHeader.from_json(header().to_json().replace(*change))
