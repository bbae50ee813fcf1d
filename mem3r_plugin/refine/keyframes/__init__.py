"""Keyframes: which frames carry the geometry, and what their pictures show in common."""
