"""Cameras, poses and image transforms: every geometric convention of the package.

Conventions, everywhere:

* Pixel centres lie at half-integers (COLMAP): the top-left pixel covers [0, 1] x [0, 1] and its
  centre is (0.5, 0.5). An image of width W spans x in [0, W].
* Camera axes are OpenCV's: x right, y down, z forward. Depth is z, not the ray length.
* Poses are 4x4 `camera_to_world` matrices, float64.
* Intrinsics and transforms are float64 NumPy; only the network works in torch.
"""

from mem3r_plugin.geometry.camera import Intrinsics
from mem3r_plugin.geometry.image_transform import ImageTransform

__all__ = ["ImageTransform", "Intrinsics"]
