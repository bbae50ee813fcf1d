"""A small furniture library of Sweet Home 3D, packed as Debian packs the real ones."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from tests.training.worlds.debian import packaged

BOX = """mtllib box.mtl
v -2 0 -1
v 2 0 -1
v 2 0 1
v -2 0 1
v -2 3 -1
v 2 3 -1
v 2 3 1
v -2 3 1
vt 0 0
vt 1 0
vt 1 1
vt 0 1
usemtl front
f 4/1 3/2 7/3 8/4
usemtl rest
f 2 1 5 6
f 1 4 8 5
f 3 2 6 7
f 5 8 7 6
usemtl veil
f 1/1 2/2 3/3 4/4
"""
"""A box 4 x 3 x 2 (x, y up, z), with a picture on the side that faces z and a veil for a bottom."""
MATERIALS = """newmtl front
Kd 1 1 1
map_Kd front.png
newmtl rest
Kd 0.2 0.4 0.6
newmtl veil
Kd 1 1 1
map_Kd veil.png
"""
CATALOGUE = """id=Test
name#1=Side table
category#1=Living room
model#1=/things/box/box.obj
width#1=80
depth#1=40
height#1=60
dropOnTopElevation#1=60
creator#1=Nobody
name#2=Van
category#2=Vehicles
model#2=/things/box/box.obj
width#2=200
depth#2=500
height#2=250
creator#2=Nobody
name#3=Door
category#3=Doors and windows
model#3=/things/box/box.obj
width#3=80
depth#3=10
height#3=200
name#4=Rug
category#4=Living room
model#4=/things/box/box.obj
width#4=80
depth#4=80
height#4=1
name#5=Cupboard
category#5=Kitchen
model#5=/things/box/box.obj
width#5=80
depth#5=40
height#5=60
elevation#5=140
dropOnTopElevation#5=-1
modelRotation#5=-1 0 0 0 1 0 0 0 -1
name#6=Cup
category#6=Kitchen
model#6=/things/box/box.obj
width#6=9
depth#6=9
height#6=11
"""
"""A table, a van deeper than wide, a cupboard that hangs and is turned about, a cup, and two of no use."""


def write_library(root: Path) -> Path:
    """A package called `shop` under `root` that holds the library."""
    packaged(root, "shop")
    folder = root / "usr/share/sweethome3d/furniture"
    folder.mkdir(parents=True)
    picture = np.full((64, 64, 3), 40, dtype=np.uint8)
    picture[:32, :32] = (250, 20, 20)  # red, above on the left
    Image.fromarray(picture).save(root / "front.png")
    Image.new("RGBA", (64, 64), (200, 200, 200, 30)).save(root / "veil.png")
    with zipfile.ZipFile(folder / "Shop.sh3f", "w") as archive:
        archive.writestr("PluginFurnitureCatalog.properties", CATALOGUE.encode("latin-1"))
        archive.writestr("things/box/box.obj", BOX)
        archive.writestr("things/box/box.mtl", MATERIALS)
        for name in ("front.png", "veil.png"):
            archive.write(root / name, f"things/box/{name}")
            (root / name).unlink()
    return root
