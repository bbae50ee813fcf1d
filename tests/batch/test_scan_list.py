from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem3r_plugin.batch import read_list
from mem3r_plugin.errors import ConfigError


def names(folder: Path, *lines: str) -> list[str]:
    path = folder / "list.txt"
    path.write_text("".join(f"{line}\n" for line in lines))
    return list(read_list(path))


def test_sources_are_absolute_and_in_order(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("# walks\n\n  b.mp4 \nc/*.jpg\n/far/a\n../up.mp4\n~/home.mp4\n")
    assert read_list(path) == {
        "b": str(tmp_path / "b.mp4"),
        "c": str(tmp_path / "c/*.jpg"),
        "a": "/far/a",
        "up": str(tmp_path.parent / "up.mp4"),
        "home": str(Path.home() / "home.mp4"),
    }


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (("walk.mp4", "walk.mov"), ["walk.mp4", "walk.mov"]),
        (("kitchen/rgb", "office/rgb", "hall.mp4"), ["kitchen_rgb", "office_rgb", "hall"]),
        (("a/walk.mp4", "b/walk.mp4", "b/walk.mov"), ["a_walk", "b_walk.mp4", "walk.mov"]),
        (("a/x/1.mp4", "b/x/1.mp4"), ["a_x_1", "b_x_1"]),
        (("walk/*.jpg", "walk/cam*/**/*.png"), None),
    ],
)
def test_names_are_as_short_as_tells_them_apart(tmp_path, lines, expected):
    found = names(tmp_path, *lines)
    if expected is None:  # two globs of one folder
        assert len(set(found)) == 2 and all(name.startswith("walk_") for name in found)
    else:
        assert found == expected


PATHS = st.lists(st.sampled_from(["a", "a_b", "b", "b.c", "c", "*.png"]), min_size=1, max_size=4)


@given(st.lists(PATHS.map("/".join), min_size=1, max_size=8, unique=True), st.randoms())
def test_names_are_unique_folders_whatever_the_order(tmp_path_factory, lines, random):
    folder = tmp_path_factory.mktemp("list")
    path = folder / "list.txt"
    path.write_text("\n".join(lines))
    found = read_list(path)
    assert len(found) == len(lines)
    assert all(Path(name).name == name for name in found)
    random.shuffle(lines)
    path.write_text("\n".join(lines))
    assert read_list(path) == found


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"# nothing\n\n", "names no source"),
        (b"walk.mp4\nhall.mp4\n./walk.mp4\n", r"line 3: \./walk\.mp4 is there already, in line 1"),
        (b"\x00\xff\xfe", "not a text file.*mem3r run"),
        (None, "cannot be read"),
    ],
)
def test_a_wrong_list_is_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "list.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as refusal:
        read_list(path)
    assert "\n" not in str(refusal.value)
    assert str(path) in str(refusal.value)
