"""The small network of the stream's tests, for the way from a picture to a project."""

from tests.stream.conftest import small_model

__all__ = ["small_model"]
