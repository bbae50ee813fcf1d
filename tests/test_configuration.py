import json
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Literal

import pytest

from mem3r_plugin.configuration import (
    find_preset,
    from_dict,
    load_config,
    load_preset,
    preset_names,
)
from mem3r_plugin.errors import ConfigError


class Colour(Enum):
    RED = 1
    BLUE = 2


@dataclass(frozen=True)
class Inner:
    rate: float = 1.0
    steps: int = 3

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ConfigError("steps must not be negative")


@dataclass(frozen=True)
class Outer:
    name: str = "plain"
    mode: Literal["fast", "slow"] = "fast"
    colour: Colour = Colour.RED
    pair: tuple[int, int] = (1, 2)
    levels: tuple[float, ...] = ()
    flag: bool = False
    limit: int | None = None
    folder: Path | None = None
    start: int | str = 0
    inner: Inner = field(default_factory=lambda: Inner(rate=7.0))
    extra: Inner | None = None


def load(tmp_path: Path, text: str) -> Outer:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    return load_config(path, Outer())


def test_values_replace_the_defaults_they_name_and_no_others(tmp_path):
    config = load(
        tmp_path,
        """
        name: mine
        mode: slow
        colour: BLUE
        pair: [3, 4]
        levels: [1, 2.5]
        flag: true
        limit: 9
        folder: a/b
        start: first
        inner: {steps: 5}
        extra: {rate: 2}
        """,
    )
    assert config == Outer(
        name="mine",
        mode="slow",
        colour=Colour.BLUE,
        pair=(3, 4),
        levels=(1.0, 2.5),
        flag=True,
        limit=9,
        folder=Path("a/b"),
        start="first",
        inner=Inner(rate=7.0, steps=5),
        extra=Inner(rate=2.0),
    )
    assert isinstance(config.levels[0], float)


def test_an_empty_file_changes_nothing(tmp_path):
    assert load(tmp_path, "# nothing here\n") == Outer()


def test_null_is_taken_where_none_is_allowed(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("limit: null\nextra: null\n")
    assert load_config(path, Outer(limit=4, extra=Inner())) == Outer()


@pytest.mark.parametrize("text", ["1e-4", "1.0e-4", "0.0001"])
def test_numbers_may_be_written_in_any_form(tmp_path, text):
    assert load(tmp_path, f"inner: {{rate: {text}}}").inner.rate == 1e-4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nmae: x", "nmae: unknown key; did you mean name?"),
        ("zzz: 1", "zzz: unknown key; known are name, mode"),
        ("inner: {step: 1}", "inner.step: unknown key; did you mean steps?"),
        ("inner: {steps: 1.5}", "inner.steps: expected a whole number, found 1.5"),
        ("inner: {steps: true}", "inner.steps: expected a whole number, found True"),
        ("inner: {rate: fast}", "inner.rate: expected a number, found 'fast'"),
        ("inner: {rate: false}", "inner.rate: expected a number, found False"),
        ("inner: 3", "inner: expected a mapping, found 3"),
        ("inner: {steps: -1}", "inner: steps must not be negative"),
        ("extra: {steps: x}", "extra.steps: expected a whole number, found 'x'"),
        ("name: 3", "name: expected text, found 3"),
        ("name:", "name: expected text, found null"),
        ("flag: 1", "flag: expected true or false, found 1"),
        ("mode: medium", "mode: expected one of fast, slow, found 'medium'"),
        ("colour: GREEN", "colour: expected one of RED, BLUE, found 'GREEN'"),
        ("colour: [RED]", "colour: expected one of RED, BLUE, found ['RED']"),
        ("pair: [1]", "pair: expected 2 values, found 1"),
        ("pair: 3", "pair: expected a list, found 3"),
        ("pair: [1, x]", "pair.1: expected a whole number, found 'x'"),
        ("start: 1.5", "start: expected a whole number or text, found 1.5"),
        ("[1, 2]", "expected a mapping, found [1, 2]"),
        ("name: [", ", line 1: not valid YAML"),
    ],
)
def test_a_mistake_is_an_error_that_names_file_and_key(tmp_path, text, message):
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, text)
    assert str(tmp_path / "settings.yaml") in str(raised.value)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_no_text_is_named(tmp_path):
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(ConfigError, match=r"binary\.yaml"):
        load_config(path, Outer())


@dataclass(frozen=True)
class Whole:
    width: int
    inner: Inner = field(default_factory=lambda: Inner(rate=7.0))


def test_a_dataclass_survives_json():
    whole = Whole(3, Inner(0.5, 9))
    assert from_dict(Whole, json.loads(json.dumps(asdict(whole))), "here") == whole


def test_without_a_base_defaults_fill_the_gaps():
    assert from_dict(Whole, {"width": 1, "inner": {"steps": 2}}, "here") == Whole(1, Inner(7.0, 2))
    with pytest.raises(ConfigError, match=r"^here: width is missing$"):
        from_dict(Whole, {}, "here")


@pytest.mark.parametrize("group", ["model", "stream", "training"])
def test_bundled_presets_are_found_by_name(group):
    assert preset_names(group)
    for name in preset_names(group):
        assert find_preset(group, name).is_file()


def test_an_unknown_preset_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"no stream preset is called 'nope'; there are .*long"):
        find_preset("stream", "nope")


def test_a_path_of_ones_own_is_a_preset_too(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\n")
    assert load_preset("stream", path, Outer()).name == "mine"
    with pytest.raises(ConfigError, match=r"missing\.yaml: no such configuration file"):
        find_preset("stream", tmp_path / "missing.yaml")
