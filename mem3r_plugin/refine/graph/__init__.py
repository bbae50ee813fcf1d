"""The pose graph: measured and predicted motions between frames, brought into agreement."""
