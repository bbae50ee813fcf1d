from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mem3r_plugin.errors import ConfigError, SourceError
from mem3r_plugin.stream.arrays import ArraySource
from mem3r_plugin.stream.estimate import Frame
from mem3r_plugin.stream.images import ImageSource
from mem3r_plugin.stream.source import Selection, SkippedFrame, Source, open_source
from mem3r_plugin.stream.video import VideoSource
from tests.stream.pictures import picture, write_pictures, write_video

BLACK = np.full((24, 32, 3), 4, dtype=np.uint8)


def taken(source: Source, start_index: int = 0) -> list[Frame]:
    return [item for item in source.frames(start_index) if isinstance(item, Frame)]


def told(source: Source, start_index: int = 0) -> list[str]:
    """Names of the frames, and of the skipped ones in brackets, in order."""
    items = source.frames(start_index)
    return [item.name if isinstance(item, Frame) else f"({item.name})" for item in items]


def test_the_spec_decides_the_kind(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "walk", ["a.jpg", "b.jpg"])
    video = write_video(tmp_path / "walk.mp4", frames=2)
    assert isinstance(open_source(folder), ImageSource)
    assert isinstance(open_source(str(folder)), ImageSource)
    assert isinstance(open_source(folder / "a.jpg"), ImageSource)
    assert isinstance(open_source(f"{folder}/*.jpg"), ImageSource)
    assert isinstance(open_source(video), VideoSource)
    assert isinstance(open_source([picture()]), ArraySource)
    source = open_source(folder)
    assert open_source(source) is source


def test_a_missing_file_is_told_in_one_line(tmp_path: Path) -> None:
    missing = tmp_path / "walk.mp4"
    with pytest.raises(SourceError, match=r"walk.mp4 does not exist: give a video") as caught:
        open_source(missing)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spec", [61, "61"])
def test_a_missing_camera_is_told_in_one_line(
    spec: int | str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match="camera 61 cannot be opened"):
        open_source(spec)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": 0}, "stride is 0"),
        ({"max_frames": 0}, "max_frames is 0"),
        ({"fps": 0.0}, "fps is 0.0"),
        ({"fps": 2.0, "stride": 2}, "give one of them"),
        ({"start": 3.0, "end": 2.0}, "not after start"),
        ({"end": 0.0}, "not after start"),
        ({"start": 1.0}, "start needs a video"),
        ({"fps": 1.0}, "fps needs a video"),
    ],
)
def test_senseless_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_source([picture()], **options)


def test_frames_are_numbered_without_gaps_and_keep_their_position() -> None:
    frames = taken(open_source([picture(seed=i) for i in range(10)], stride=3))
    assert [f.index for f in frames] == [0, 1, 2, 3]
    assert [f.position for f in frames] == [0, 3, 6, 9]
    assert [f.timestamp for f in frames] == [0.0, 3.0, 6.0, 9.0]
    assert len({f.name for f in frames}) == 4


def test_black_and_odd_sized_frames_are_skipped_with_a_reason() -> None:
    arrays = [BLACK, picture(seed=1), picture(40, 24), BLACK, picture(seed=2)]
    source = open_source(arrays)
    assert [f.position for f in taken(source)] == [1, 4]
    skipped = [item for item in source.frames() if isinstance(item, SkippedFrame)]
    assert [(s.position, s.reason) for s in skipped] == [
        (0, "is black"),
        (2, "is 40x24, the frames before it are 32x24"),
        (3, "is black"),
    ]


def test_a_dark_frame_is_no_black_frame() -> None:
    night = np.zeros((24, 32, 3), dtype=np.uint8)
    night[10:14, 12:20] = 60
    assert len(taken(open_source([night]))) == 1


def test_max_frames_counts_usable_frames() -> None:
    source = open_source([picture(), BLACK, picture(), picture()], max_frames=2)
    assert [f.position for f in taken(source)] == [0, 2]
    assert source.expected_frames == 2


def test_a_restart_goes_on_where_the_frame_before_ended() -> None:
    arrays = [picture(), BLACK, picture(), BLACK, picture(), BLACK]
    source = open_source(arrays, max_frames=3)
    whole = told(source)
    for index in range(1, 4):
        first = [name.startswith("(") for name in whole]
        cut = [i for i, skipped in enumerate(first) if not skipped][index - 1] + 1
        assert told(source, index) == whole[cut:]
        assert [f.index for f in taken(source, index)] == list(range(index, 3))


def test_a_restart_keeps_the_size_of_the_first_frame() -> None:
    source = open_source([picture(), picture(40, 24), picture(40, 24), picture()])
    assert [f.position for f in taken(source, 1)] == [3]


def test_a_source_without_a_usable_frame_says_why() -> None:
    with pytest.raises(SourceError, match=r"no usable frame in the arrays source: .* is black"):
        taken(open_source([BLACK, BLACK]))
    with pytest.raises(SourceError, match=r"no usable frame in the arrays source$"):
        taken(open_source([]))


def test_frames_are_read_lazily() -> None:
    asked: list[int] = []

    def endless() -> Iterator[NDArray[np.uint8]]:
        while True:
            asked.append(len(asked))
            yield picture()

    frames = open_source(endless()).frames()
    assert [next(frames).position for _ in range(3)] == [0, 1, 2]
    assert len(asked) == 3


def test_selection_of_a_video_needs_no_video_to_be_checked() -> None:
    assert Selection(start=1.0, end=2.0, fps=5.0).stride == 1
