"""Geometry behind the stream: refined poses, one camera, consistent depth."""

# Before pycolmap: loaded the other way round, OpenCV's PNG writer frees with pycolmap's zlib and aborts.
import cv2 as cv2
