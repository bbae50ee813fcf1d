"""Public names are there on purpose: adding or removing one means changing this file."""

import inspect

import pytest

import mem3r_plugin

PUBLIC = {
    "Frame",
    "FrameEstimate",
    "FrontEnd",
    "ImageTransform",
    "Intrinsics",
    "Mem3RError",
    "RunConfig",
    "Scan",
    "Sink",
    "load_network",
    "open_source",
    "run",
}


def test_the_public_names_are_these():
    assert set(mem3r_plugin.__all__) == PUBLIC
    assert set(dir(mem3r_plugin)) == PUBLIC


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_a_public_name_is_a_documented_class_or_function(name):
    public = getattr(mem3r_plugin, name)
    assert inspect.isclass(public) or inspect.isfunction(public)
    assert public.__name__ == name
    assert inspect.getdoc(public)


def test_other_names_are_refused():
    with pytest.raises(AttributeError, match="no attribute 'nothing_like_this'"):
        mem3r_plugin.nothing_like_this  # noqa: B018
