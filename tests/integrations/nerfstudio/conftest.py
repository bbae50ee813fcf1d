"""These tests run in the environment of nerfstudio: `make test-nerfstudio`."""

from importlib.util import find_spec

import pytest

HERE = "tests/integrations/nerfstudio/"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if find_spec("nerfstudio") is None:
        skip = pytest.mark.skip(reason="nerfstudio is not installed; run `make test-nerfstudio`")
        for item in items:
            if HERE in item.nodeid:
                item.add_marker(skip)
