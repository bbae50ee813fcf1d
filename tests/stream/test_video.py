import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from mem3r_plugin.errors import SourceError
from mem3r_plugin.stream.estimate import Frame
from mem3r_plugin.stream.source import SkippedFrame, open_source
from mem3r_plugin.stream.video import CameraSource, VideoReader
from tests.stream.pictures import frame_number, video_frame, write_video

CODECS = [("mp4", "mp4v"), ("avi", "MJPG"), ("mkv", "mp4v")]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 frames at 10 frames a second."""
    return write_video(tmp_path_factory.mktemp("video") / "walk.mp4")


def positions(path: Path, **options: float | int) -> list[int]:
    """Positions of the frames that come, each checked to hold the picture of that number."""
    items = list(open_source(path, **options).frames())  # type: ignore[arg-type]
    assert all(isinstance(f, Frame) and frame_number(f.image) == f.position for f in items)
    return [item.position for item in items]


def damaged(source: Path, path: Path, start: float, end: float) -> Path:
    """A copy of a file with noise between two fractions of its length."""
    content = bytearray(source.read_bytes())
    first, last = int(start * len(content)), int(end * len(content))
    content[first:last] = np.random.default_rng(0).bytes(last - first)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(("suffix", "codec"), CODECS)
def test_every_frame_comes_upright_in_rgb_with_its_time(
    tmp_path: Path, suffix: str, codec: str
) -> None:
    source = open_source(write_video(tmp_path / f"walk.{suffix}", codec=codec))
    frames = [item for item in source.frames() if isinstance(item, Frame)]
    assert source.expected_frames == 30
    assert [f.position for f in frames] == list(range(30))
    assert frames[7].name == "frame_000007.png"
    np.testing.assert_allclose([f.timestamp for f in frames], np.arange(30) / 10, atol=1e-3)
    np.testing.assert_allclose(frames[7].image.astype(float), video_frame(7), atol=60)
    red, green, blue = frames[7].image[:16, :16].reshape(-1, 3).mean(axis=0)
    assert red > 200 > max(green, blue)


def test_stride_start_end_and_rate_select(video: Path) -> None:
    assert positions(video, stride=7) == [0, 7, 14, 21, 28]
    assert positions(video, start=1.0, end=1.5) == [10, 11, 12, 13, 14]
    assert positions(video, start=0.95, stride=5, max_frames=3) == [10, 15, 20]
    assert positions(video, fps=2.0) == [0, 5, 10, 15, 20, 25]
    assert positions(video, fps=4.0, end=1.0) == [0, 3, 5, 8]
    assert positions(video, fps=25.0) == list(range(30))


@pytest.mark.parametrize(
    "options", [{}, {"stride": 7}, {"fps": 2.0}, {"start": 1.0, "end": 1.5}, {"max_frames": 4}]
)
def test_the_expected_length_is_the_length(video: Path, options: dict[str, float]) -> None:
    source = open_source(video, **options)  # type: ignore[arg-type]
    assert source.expected_frames is not None
    assert abs(source.expected_frames - len(positions(video, **options))) <= 1


def test_nothing_between_start_and_end_is_told(video: Path) -> None:
    with pytest.raises(SourceError, match=f"no usable frame in {video}"):
        positions(video, start=99.0)


def test_a_restart_gives_the_same_frames(video: Path) -> None:
    source = open_source(video, stride=4)
    whole, again = list(source.frames()), list(source.frames(start_index=3))
    assert [item.position for item in again] == [item.position for item in whole[3:]]
    for first, second in zip(whole[3:], again, strict=True):
        assert isinstance(first, Frame)
        assert isinstance(second, Frame)
        assert first.index == second.index
        np.testing.assert_array_equal(first.image, second.image)


def test_one_frame_is_a_video(tmp_path: Path) -> None:
    assert positions(write_video(tmp_path / "one.mp4", frames=1)) == [0]


@pytest.mark.parametrize("content", [b"", b"hello " * 50])
def test_what_is_no_video_is_told_in_one_line(tmp_path: Path, content: bytes, capfd) -> None:
    path = tmp_path / "walk.mp4"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"walk\.mp4 cannot be read as a video"):
        open_source(path)
    assert capfd.readouterr() == ("", "")


def test_an_mp4_without_its_end_is_no_video(video: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.mp4"
    path.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    with pytest.raises(SourceError, match="damaged"):
        open_source(path)


def test_frames_damaged_in_the_middle_are_skipped(tmp_path: Path, capfd) -> None:
    whole = write_video(tmp_path / "whole.mp4", frames=60, fps=30)
    path = damaged(whole, tmp_path / "walk.mp4", 0.4, 0.5)
    items = list(open_source(path).frames())
    gaps = [item for item in items if isinstance(item, SkippedFrame)]
    assert len(gaps) >= 1
    assert all("cannot be decoded" in gap.reason for gap in gaps)
    assert items[-1].position == 59
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("suffix", "codec"), [("avi", "MJPG"), ("mkv", "mp4v")])
def test_a_video_that_ends_early_is_told(tmp_path: Path, suffix: str, codec: str) -> None:
    whole = write_video(tmp_path / f"whole.{suffix}", codec=codec)
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    *frames, last = open_source(path).frames()
    assert 3 <= len(frames) < 25
    assert isinstance(last, SkippedFrame)
    assert last.position == len(frames)
    expected = f"is missing: the file announces 30 frames, {len(frames)} could be read"
    assert last.reason == expected


def test_an_end_reached_on_purpose_is_no_damage(video: Path) -> None:
    assert positions(video, end=1.0) == list(range(10))


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_rotation_metadata_is_honoured(video: Path, tmp_path: Path, turns: int) -> None:
    path = tmp_path / "turned.mp4"
    path.write_bytes(_with_rotation(video.read_bytes(), turns))
    frame = next(open_source(path).frames())
    assert isinstance(frame, Frame)
    expected = np.rot90(video_frame(0), -turns)
    assert frame.image.shape == expected.shape
    np.testing.assert_allclose(frame.image.astype(float), expected, atol=60)


def test_a_reader_gives_any_frame_by_number(video: Path) -> None:
    with VideoReader(video) as reader:
        assert [frame_number(reader.read(n)) for n in (3, 3, 17, 4, 29)] == [3, 3, 17, 4, 29]


def test_a_missing_video_is_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not exist"):
        VideoReader(tmp_path / "gone.mp4")


def test_a_camera_is_read_once_with_rising_time(
    video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no camera on a test machine: OpenCV is handed a video in its place."""
    opened = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", lambda index, backend: opened(str(video)))
    source = open_source(0, stride=3, max_frames=5)
    assert isinstance(source, CameraSource)
    assert source.describe() == {"kind": "camera", "index": 0}
    assert source.expected_frames == 5
    frames = [item for item in source.frames() if isinstance(item, Frame)]
    assert [frame_number(f.image) for f in frames] == [0, 3, 6, 9, 12]
    times = [f.timestamp for f in frames]
    assert times == sorted(times)
    with pytest.raises(SourceError, match="cannot be resumed"):
        next(source.frames(2))


def _with_rotation(mp4: bytes, turns: int) -> bytes:
    """The file with a display matrix in its track header that turns it clockwise."""
    # tkhd, version 0: its type, 40 bytes of other fields, then the 3x3 matrix in 16.16 and 2.30.
    cosine, sine = [(1, 0), (0, 1), (-1, 0), (0, -1)][turns]
    one = 1 << 16
    rows = [cosine * one, sine * one, 0, -sine * one, cosine * one, 0, 0, 0, 1 << 30]
    start = mp4.index(b"tkhd") + 4 + 40
    return mp4[:start] + struct.pack(">9i", *rows) + mp4[start + 36 :]
