"""Textures from a real Debian package made here; only the download is replaced."""

import io
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mem3r_plugin.errors import OutputError, SourceError
from mem3r_plugin.training.worlds.packages import LICENCES
from mem3r_plugin.training.worlds.photographs import fetch_textures
from mem3r_plugin.training.worlds.textures import SIZE
from tests.training.worlds.debian import packaged, serve

pytestmark = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb")


def noise(width: int, height: int, seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(40, 220, (height, width, 3), dtype=np.uint8))


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Two small pictures, a large one, four that are no use, and one in an archive."""
    root = packaged(tmp_path / "package", "pretty")
    pictures = root / "usr/share/pictures"
    (pictures / "walls").mkdir(parents=True)
    noise(200, 200, 0).save(pictures / "walls/brick.jpg")
    noise(256, 200, 1).save(pictures / "floor.tga")
    noise(1000, 900, 2).save(pictures / "garden.jpg")
    noise(40, 40, 3).save(pictures / "icon.jpg")
    noise(900, 200, 4).save(pictures / "banner.jpg")
    Image.new("RGB", (200, 200), (120, 130, 140)).save(pictures / "grey.jpg")
    (pictures / "broken.jpg").write_bytes(b"no picture")
    packed = io.BytesIO()
    noise(128, 128, 5).save(packed, "JPEG")
    with zipfile.ZipFile(pictures / "more.pk3", "w") as archive:
        archive.writestr("signs/stop.jpg", packed.getvalue())
    return root


@pytest.fixture
def downloads(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An `apt-get download` that hands this package out."""
    serve(package, "pretty", tmp_path / "tools", monkeypatch)


def sources(folder: Path) -> set[str]:
    lines = (folder / LICENCES).read_text().splitlines()
    return {line.split("cut from ")[1] for line in lines if "cut from " in line}


@pytest.mark.usefixtures("downloads")
def test_pictures_become_textures_with_their_licence(tmp_path):
    folder = tmp_path / "textures"
    count = fetch_textures(folder, ("pretty",), count=10)
    files = sorted(folder.glob("*.jpg"))
    assert 4 < count == len(files) <= 10
    assert {Image.open(file).size for file in files} == {(SIZE, SIZE)}
    assert sources(folder) == {
        "usr/share/pictures/walls/brick.jpg",
        "usr/share/pictures/floor.tga",
        "usr/share/pictures/garden.jpg",
        "usr/share/pictures/more.pk3/signs/stop.jpg",
    }
    assert "CC0, by nobody" in (folder / LICENCES).read_text()


@pytest.mark.usefixtures("downloads")
def test_the_same_textures_every_time(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        fetch_textures(folder, ("pretty",), count=6)
    names = [file.name for file in sorted(first.iterdir())]
    assert names == [file.name for file in sorted(second.iterdir())]
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)


@pytest.mark.usefixtures("downloads")
def test_a_pattern_chooses_files(tmp_path):
    assert fetch_textures(tmp_path / "walls", ("pretty:*/walls/*",)) == 1
    assert sources(tmp_path / "walls") == {"usr/share/pictures/walls/brick.jpg"}


@pytest.mark.usefixtures("downloads")
def test_packages_that_cannot_serve_are_named_and_leave_nothing(tmp_path, package):
    with pytest.raises(SourceError, match="package ugly cannot be had: E: Unable to locate"):
        fetch_textures(tmp_path / "textures", ("pretty", "ugly"))
    (package / "usr/share/doc/pretty/copyright").unlink()
    with pytest.raises(SourceError, match="pretty names no licence"):
        fetch_textures(tmp_path / "textures", ("pretty",))
    assert not (tmp_path / "textures").exists()


def test_without_apt_there_is_advice(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceError, match=r"apt-get and dpkg-deb are needed .* data\.textures"):
        fetch_textures(tmp_path / "textures")


def test_a_folder_in_use_is_not_touched(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="not empty"):
        fetch_textures(tmp_path)
    with pytest.raises(OutputError, match="not an earlier export"):
        fetch_textures(tmp_path, overwrite=True)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]
