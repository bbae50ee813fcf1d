"""What was written is read back; what is damaged is named."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

from mem3r_plugin.errors import ScanError
from mem3r_plugin.scan import Scan, ScanSink
from tests.scan.estimates import ORIGINAL, TRANSFORM, header, make_estimates, write_scan


def test_scan_gives_back_what_was_written(tmp_path):
    write_scan(tmp_path / "scan")
    scan = Scan.open(tmp_path / "scan")
    assert len(scan) == 5
    assert scan.complete
    assert scan.transform == TRANSFORM
    for index, estimate in enumerate(make_estimates(5)):
        frame = scan.frames[index]
        assert (frame.index, frame.name) == (index, estimate.frame.name)
        assert (frame.timestamp, frame.position) == (estimate.frame.timestamp, 2 * index)
        assert frame.focal == estimate.focal
        np.testing.assert_array_equal(frame.camera_to_world, estimate.camera_to_world)
        depth, confidence = scan.depth(index), scan.confidence(index)
        assert depth.dtype == confidence.dtype == np.float32
        np.testing.assert_allclose(depth, estimate.depth, atol=scan.depth_unit / 2)
        np.testing.assert_array_equal(depth == 0, estimate.depth == 0)
        assert (confidence[depth == 0] == 1).all()
        np.testing.assert_allclose(1 / confidence, 1 / estimate.confidence, atol=0.5 / 255 + 1e-6)
        np.testing.assert_array_equal(scan.image(index), estimate.frame.image)
        feature = scan.feature(index)
        assert feature is not None
        assert estimate.feature is not None
        assert feature.dtype == np.float32
        np.testing.assert_allclose(feature, estimate.feature, rtol=2**-11, atol=2**-24)


def test_camera_is_the_last_estimate_in_original_pixels(tmp_path):
    write_scan(tmp_path / "scan")
    scan = Scan.open(tmp_path / "scan")
    assert (scan.camera.width, scan.camera.height) == ORIGINAL
    assert scan.camera.fx == pytest.approx(90 + 4 / 7, rel=1e-12)
    assert (scan.network_camera.width, scan.network_camera.height) == TRANSFORM.target_size


def test_shared_camera_is_that_of_every_frame(tmp_path):
    write_scan(tmp_path / "scan")
    scan = Scan.open(tmp_path / "scan")
    assert {scan.frame_camera(index) for index in range(5)} == {scan.camera}
    assert {scan.frame_network_camera(index) for index in range(5)} == {scan.network_camera}


def test_each_frame_has_the_camera_of_its_own_focal_length(tmp_path):
    sink = ScanSink(tmp_path / "scan", header(camera_mode="per_frame"), copy_images=True)
    sink.open()
    for estimate in make_estimates(5):
        sink.write(estimate)
    sink.close(complete=True)
    scan = Scan.open(tmp_path / "scan")
    first, *_ = estimates = list(make_estimates(5))
    assert scan.camera == first.original_intrinsics
    for index, estimate in enumerate(estimates):
        own, network = scan.frame_camera(index), scan.frame_network_camera(index)
        assert network.fx == pytest.approx(estimate.focal)
        assert own.fx == own.fy == pytest.approx(estimate.focal * 100 / 64)
        assert replace(own, fx=1, fy=1) == replace(scan.camera, fx=1, fy=1)
        assert (network.width, network.height) == TRANSFORM.target_size


def test_original_depth_is_the_network_depth_at_the_same_place(tmp_path):
    write_scan(tmp_path / "scan", count=1)
    scan = Scan.open(tmp_path / "scan")
    depth, original = scan.depth(0), scan.original_depth(0)
    assert original.shape == ORIGINAL[::-1]
    centre = np.array([50.5, 33.5])
    x, y = np.floor(TRANSFORM.pixels(centre)).astype(int)
    assert original[33, 50] == depth[y, x]
    assert (original[0] == 0).all()  # cropped away


def test_torn_last_line_is_ignored(tmp_path):
    write_scan(tmp_path / "scan", complete=False)
    lines = tmp_path / "scan" / "frames.jsonl"
    content = lines.read_bytes()
    for cut in (1, 20, 100):
        lines.write_bytes(content[:-cut])
        assert len(Scan.open(tmp_path / "scan")) == 4


def test_scan_can_be_read_while_it_is_written(tmp_path):
    sink = ScanSink(tmp_path / "scan", header(), copy_images=True)
    sink.open()
    with pytest.raises(ScanError, match="no frame yet"):
        Scan.open(tmp_path / "scan")
    for count, estimate in enumerate(make_estimates(3), start=1):
        sink.write(estimate)
        scan = Scan.open(tmp_path / "scan")
        assert len(scan) == count
        assert not scan.complete
        assert scan.depth(count - 1).any()
    sink.close(complete=True)


@pytest.mark.parametrize("kind", ["depth", "confidence"])
def test_missing_picture_names_the_line(tmp_path, kind):
    write_scan(tmp_path / "scan")
    (tmp_path / "scan" / kind / "000002.png").unlink()
    with pytest.raises(ScanError, match=rf"{kind}/000002.png is missing.*line 3"):
        Scan.open(tmp_path / "scan")


def test_damaged_picture_is_named(tmp_path):
    write_scan(tmp_path / "scan")
    file = tmp_path / "scan" / "depth" / "000001.png"
    file.write_bytes(file.read_bytes()[:40])
    scan = Scan.open(tmp_path / "scan")
    with pytest.raises(ScanError, match=r"depth/000001.png is missing or damaged"):
        scan.depth(1)
    cv2.imwrite(str(file), np.zeros((32, 64), np.uint8))
    with pytest.raises(ScanError, match="uint16"):
        scan.depth(1)


def test_scan_without_features_opens(tmp_path):
    write_scan(tmp_path / "scan")
    file = tmp_path / "scan" / "frames.jsonl"
    records = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps({**r, "feature": None}) + "\n" for r in records))
    with pytest.raises(ScanError, match="line 1 is damaged"):
        Scan.open(tmp_path / "scan")
    for record in records:
        del record["feature"]
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert Scan.open(tmp_path / "scan").feature(2) is None


@pytest.mark.parametrize(
    "edit",
    [
        lambda line: line[:-5],
        lambda line: line.replace('"index": 1', '"index": 7'),
        lambda line: line.replace('"focal"', '"length"'),
        lambda line: line.replace("[[", "[", 1),
        lambda line: line.replace('"feature": "', '"feature": "?'),
        lambda line: "",
        lambda line: "[]",
    ],
)
def test_damaged_line_in_the_middle_is_named(tmp_path, edit):
    write_scan(tmp_path / "scan")
    file = tmp_path / "scan" / "frames.jsonl"
    lines = file.read_text().split("\n")
    lines[1] = edit(lines[1])
    file.write_text("\n".join(lines))
    with pytest.raises(ScanError, match=r"frames.jsonl, line 2 is damaged"):
        Scan.open(tmp_path / "scan")


def test_what_is_no_scan_is_refused(tmp_path):
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(ScanError, match="is not a scan"):
            Scan.open(path)
    for content in ("{", "{}", "[]", '{"format": "mem3r-scan", "version": 99}', "\udcff"):
        (tmp_path / "scan.json").write_text(content, errors="surrogateescape")
        with pytest.raises(ScanError, match=r"scan\.json is damaged or of another format"):
            Scan.open(tmp_path)


def one_frame_scan(tmp_path, source):
    """A scan of one frame whose picture is the file or video `source`."""
    estimate = next(make_estimates(1, path=source))
    sink = ScanSink(tmp_path / "scan", header(source={"kind": "images", "path": str(tmp_path)}))
    sink.open()
    sink.write(estimate)
    sink.close(complete=True)
    return Scan.open(tmp_path / "scan"), estimate


def test_pictures_are_kept_by_reference(tmp_path):
    file = tmp_path / "a.png"
    scan, estimate = one_frame_scan(tmp_path, file)
    assert not (tmp_path / "scan" / "images").exists()
    Image.fromarray(estimate.frame.image).save(file)
    np.testing.assert_array_equal(scan.image(0), estimate.frame.image)
    assert scan.image_file(0) == file


@pytest.mark.parametrize("orientation", range(1, 9))
def test_image_file_is_given_only_where_it_is_stored_upright(tmp_path, orientation):
    file = tmp_path / "a.png"
    scan, estimate = one_frame_scan(tmp_path, file)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(estimate.frame.image).save(file, exif=exif)
    assert scan.image_file(0) == (file if orientation == 1 else None)


def test_image_file_is_not_given_for_other_pixel_formats(tmp_path):
    file = tmp_path / "a.png"
    scan, estimate = one_frame_scan(tmp_path, file)
    for mode in ("RGBA", "P", "I;16"):
        picture = Image.fromarray(estimate.frame.image)
        (picture.convert("L") if mode == "I;16" else picture).convert(mode).save(file)
        assert scan.image_file(0) is None


def test_a_picture_that_has_gone_or_changed_is_named(tmp_path):
    file = tmp_path / "a.png"
    scan, _ = one_frame_scan(tmp_path, file)
    with pytest.raises(ScanError, match=r"frame_000000.png.*a\.png"):
        scan.image(0)
    with pytest.raises(ScanError, match=r"a\.png"):
        scan.image_file(0)
    Image.new("RGB", (30, 20)).save(file)
    with pytest.raises(ScanError, match="is now 30x20, the scan was made from 100x66"):
        scan.image(0)


def test_video_frames_are_decoded_by_position_in_any_order(tmp_path):
    video = tmp_path / "walk.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 10, ORIGINAL)
    for level in range(0, 200, 20):
        writer.write(np.full((*ORIGINAL[::-1], 3), level, np.uint8))
    writer.release()
    sink = ScanSink(tmp_path / "scan", header(source={"kind": "video", "path": str(video)}))
    sink.open()
    for estimate in make_estimates(4):  # positions 0, 2, 4, 6
        sink.write(estimate)
    sink.close(complete=True)
    scan = Scan.open(tmp_path / "scan")
    for index in (0, 3, 1, 2):
        assert abs(int(scan.image(index).mean()) - 40 * index) <= 2
        assert scan.image_file(index) is None
    assert json.loads((tmp_path / "scan/frames.jsonl").read_text().split("\n")[1])["image"] is None
