"""Things from a real Debian package made here; only the download is replaced."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mem3r_plugin.errors import OutputError, SourceError
from mem3r_plugin.training.worlds.catalogue import fetch_things
from mem3r_plugin.training.worlds.packages import LICENCES
from mem3r_plugin.training.worlds.things import GEOMETRY, SKINS, Thing, load_things
from tests.training.worlds.debian import serve
from tests.training.worlds.furniture_library import write_library

pytest.importorskip("open3d", reason="needs Open3D")
pytestmark = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The furniture library, in a package that apt-get hands out."""
    root = write_library(tmp_path / "package")
    serve(root, "shop", tmp_path / "tools", monkeypatch)
    return root


@pytest.fixture
def things(things_folder: Path) -> dict[str, Thing]:
    return {each.name: each for each in load_things(things_folder).things}


@pytest.mark.usefixtures("package")
def test_what_was_fetched_is_counted(tmp_path):
    assert fetch_things(tmp_path / "things", "shop") == 4
    assert len(load_things(tmp_path / "things").things) == 4


def test_what_stands_or_hangs_is_taken_in_metres(things):
    assert set(things) == {"Side table", "Van", "Cupboard", "Cup"}  # no doors, nothing flat
    table, cupboard = things["Side table"], things["Cupboard"]
    assert table.size == (0.8, 0.4, 0.6)
    assert (table.elevation, table.top) == (0.0, 0.6)
    assert (cupboard.elevation, cupboard.top) == (1.4, None)
    assert table.vertices.min(0).tolist() == [-0.5, -0.5, 0.0]
    assert table.vertices.max(0).tolist() == [0.5, 0.5, 1.0]


def front(thing: Thing) -> np.ndarray:
    """The corners (2, 3, 3) of the two triangles that have a picture."""
    return thing.vertices[thing.faces[pictured(thing)]]


def pictured(thing: Thing) -> np.ndarray:
    """Which triangles have the first texture."""
    return thing.skin[thing.material] == 0


def test_the_front_faces_us_with_its_picture_upright(things):
    table = things["Side table"]
    assert (front(table)[..., 1] == -0.5).all()
    uv = table.uv[pictured(table)]
    left, above = front(table)[..., 0] < 0, front(table)[..., 2] > 0.5
    np.testing.assert_allclose(uv[..., 0], np.where(left, 0, 1), atol=1e-6)
    np.testing.assert_allclose(uv[..., 1], np.where(above, 0, 1), atol=1e-6)


def test_what_the_catalogue_turns_is_turned(things):
    assert (front(things["Cupboard"])[..., 1] == 0.5).all()


def test_vehicles_lie_along_the_road(things):
    van = things["Van"]
    assert van.size == (5.0, 2.0, 2.5)
    assert np.ptp(front(van)[..., 0]) == 0  # its front is one of its short sides


def test_veils_are_left_out_and_colours_are_kept(things):
    table = things["Side table"]
    assert len(table.faces) == 10  # five sides of a box
    assert (table.vertices[table.faces][..., 2].max(1) > 0).all()
    np.testing.assert_allclose(table.colour[table.skin == 1], [[0.2, 0.4, 0.6]], atol=1e-6)
    np.testing.assert_allclose(table.colour[table.skin == 0], 1)


def test_equal_textures_are_kept_once_with_their_licence(things_folder):
    pictures = sorted((things_folder / SKINS).iterdir())
    assert [file.name for file in pictures] == ["000.jpg", "001.jpg"]
    front, white = (np.asarray(Image.open(file)).astype(int) for file in pictures)
    assert front[20, 20, 0] > 220 > 60 > front[200, 200, 0]
    assert (white == 255).all()  # for what has a colour only
    licences = (things_folder / LICENCES).read_text()
    assert "Debian package shop: 4 models" in licences
    assert "CC0, by nobody" in licences
    assert "/things/box/box.obj: Van, by Nobody" in licences


def test_places_suit_what_stands_there(things):
    assert things["Van"].suits == {"kerb"}
    assert things["Cupboard"].suits == {"wall"}
    assert things["Cup"].suits == {"on top"}
    assert things["Side table"].suits == {"wall", "free", "corridor"}


def test_packages_that_cannot_serve_are_named_and_leave_nothing(package, tmp_path):
    with pytest.raises(SourceError, match="package ugly cannot be had: E: Unable to locate"):
        fetch_things(tmp_path / "things", "ugly")
    (package / "usr/share/doc/shop/copyright").unlink()
    with pytest.raises(SourceError, match="shop names no licence"):
        fetch_things(tmp_path / "things", "shop")
    assert not (tmp_path / "things").exists()


def test_a_package_without_models_is_named(package, tmp_path):
    (package / "usr/share/sweethome3d/furniture/Shop.sh3f").unlink()
    with pytest.raises(SourceError, match="holds no furniture library"):
        fetch_things(tmp_path / "things", "shop")


def test_a_broken_library_is_named_and_leaves_nothing(package, tmp_path):
    (package / "usr/share/sweethome3d/furniture/Shop.sh3f").write_bytes(b"no archive")
    with pytest.raises(SourceError, match=r"Shop\.sh3f is no library of Sweet Home 3D"):
        fetch_things(tmp_path / "things", "shop")
    assert not (tmp_path / "things").exists()


def test_a_damaged_folder_is_named(things_folder, tmp_path):
    damaged, bare = tmp_path / "damaged", tmp_path / "bare"
    for folder in (damaged, bare):
        shutil.copytree(things_folder, folder)
    (damaged / GEOMETRY).write_bytes(b"no tensors")
    shutil.rmtree(bare / SKINS)
    for folder in (damaged, bare):
        with pytest.raises(SourceError, match=f"{folder} holds no things"):
            load_things(folder)


def test_a_folder_in_use_is_not_touched(package, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="not empty"):
        fetch_things(tmp_path / "full", "shop")
    assert [file.name for file in (tmp_path / "full").iterdir()] == ["mine.txt"]
