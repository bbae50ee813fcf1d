"""YAML files laid over frozen dataclasses, strictly.

A preset holds only what differs from the defaults of its dataclass. Every key must be a field and
every value of the field's type, so that a typing mistake is an error and not a setting without
effect. The presets of the repository's `configs/` are installed as `mem3r_plugin.configs`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass, replace
from difflib import get_close_matches
from enum import Enum
from importlib import resources
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from mem3r_plugin.errors import ConfigError

Config = TypeVar("Config")


def preset_names(group: str) -> tuple[str, ...]:
    """Names of the bundled presets of a group: `model`, `stream` or `training`."""
    folder = _preset_folder(group)
    return tuple(sorted(file.stem for file in folder.glob("*.yaml")))


def find_preset(group: str, name: str | Path) -> Path:
    """The YAML file behind the name of a bundled preset, or behind a path of the user's own.

    Raises:
        ConfigError: it is neither.
    """
    path = Path(name)
    if path.suffix in {".yaml", ".yml"}:
        if not path.is_file():
            raise ConfigError(f"{path}: no such configuration file")
        return path
    bundled = _preset_folder(group) / f"{name}.yaml"
    if str(name) not in preset_names(group):
        known = ", ".join(preset_names(group))
        raise ConfigError(f"no {group} preset is called {str(name)!r}; there are {known}")
    return bundled


def load_preset(group: str, name: str | Path, base: Config) -> Config:
    """`base` with the values of a preset, found as by `find_preset`, in place of its own."""
    return load_config(find_preset(group, name), base)


def load_config(path: Path, base: Config) -> Config:
    """`base`, a dataclass instance, with the values of a YAML file in place of its own.

    Nested dataclasses are nested mappings; what is not named, at any depth, stays as in `base`.
    YAML lists become tuples, names become members of an enum.

    Raises:
        ConfigError: the file cannot be read, is not a YAML mapping, names an unknown key, or
            gives a value of the wrong type; the message names file and key.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not a text file") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(
            f"{path}{where}: not valid YAML: {getattr(error, 'problem', error)}"
        ) from error
    return _build(type(base), base, {} if values is None else values, _Place(str(path)))


def from_dict(kind: type[Config], values: object, where: str) -> Config:
    """A dataclass from a mapping as `dataclasses.asdict` and JSON give it, strictly.

    Args:
        kind: The dataclass; nested ones are made from nested mappings.
        values: The mapping; fields it does not name keep their defaults.
        where: What the mapping was read from, for error messages.

    Raises:
        ConfigError: as for `load_config`, or a field without a default is missing.
    """
    return _build(kind, None, values, _Place(where))


@dataclass(frozen=True)
class _Place:
    """Where a value stands, for error messages: a file and a dotted key."""

    source: str
    keys: tuple[str, ...] = ()

    def __truediv__(self, key: object) -> _Place:
        return _Place(self.source, (*self.keys, str(key)))

    def error(self, message: str) -> ConfigError:
        return ConfigError(": ".join(filter(None, [self.source, ".".join(self.keys), message])))


def _preset_folder(group: str) -> Path:
    # A real path: neither pip nor an editable install keeps packages in an archive.
    return Path(str(resources.files("mem3r_plugin.configs"))) / group


def _build(kind: Any, base: Any, values: object, place: _Place) -> Any:
    """A dataclass of type `kind`: `base`, or its defaults where that is None, with `values`."""
    if not isinstance(values, dict):
        raise place.error(f"expected a mapping, found {_shown(values)}")
    kinds = get_type_hints(kind)
    known = {field.name: field for field in fields(kind) if field.init}
    changes = {}
    for key, value in values.items():
        if key not in known:
            close = get_close_matches(str(key), known, n=1)
            advice = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
            raise (place / key).error(f"unknown key; {advice}")
        current = _default(known[key]) if base is None else getattr(base, key)
        changes[key] = _convert(kinds[key], current, value, place / key)
    missing = [name for name, field in known.items() if _is_required(field) and name not in changes]
    if base is None and missing:
        raise place.error(f"{missing[0]} is missing")
    try:
        return kind(**changes) if base is None else replace(base, **changes)
    except (ConfigError, ValueError) as error:
        raise place.error(str(error)) from error


def _convert(kind: Any, current: object, value: object, place: _Place) -> object:
    """`value` as `kind`; `current` is what a nested dataclass is laid over."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return _convert_union(arguments, current, value, place)
    if origin is Literal:
        # By type as well: True is not 1.
        if any(value == option and type(value) is type(option) for option in arguments):
            return value
    elif origin is tuple and isinstance(value, list):
        return tuple(_convert_items(arguments, value, place))
    elif is_dataclass(kind) and isinstance(kind, type):
        return _build(kind, current if isinstance(current, kind) else None, value, place)
    elif isinstance(kind, type) and issubclass(kind, Enum):
        if isinstance(value, str) and value in kind.__members__:
            return kind[value]
    elif kind is float:
        return _convert_float(value, place)
    elif kind is Path and isinstance(value, str):
        return Path(value)
    elif isinstance(kind, type) and type(value) is kind:
        return value
    raise place.error(f"expected {_named(kind)}, found {_shown(value)}")


def _convert_union(
    arguments: tuple[Any, ...], current: object, value: object, place: _Place
) -> object:
    if value is None and type(None) in arguments:
        return None
    options = [option for option in arguments if option is not type(None)]
    if len(options) == 1:
        return _convert(options[0], current, value, place)
    for option in options:
        with suppress(ConfigError):
            return _convert(option, current, value, place)
    raise place.error(f"expected {' or '.join(map(_named, options))}, found {_shown(value)}")


def _convert_items(kinds: tuple[Any, ...], values: list[object], place: _Place) -> Iterator[object]:
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        kinds = (kinds[0],) * len(values)
    if len(values) != len(kinds):
        raise place.error(f"expected {len(kinds)} values, found {len(values)}")
    for index, (kind, value) in enumerate(zip(kinds, values, strict=True)):
        yield _convert(kind, None, value, place / index)


def _convert_float(value: object, place: _Place) -> float:
    # YAML 1.1 reads 1e-4 (without a dot) as text.
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            pass
    raise place.error(f"expected a number, found {_shown(value)}")


def _is_required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _default(field: Field[Any]) -> object:
    """A field's default, None where it has none: what a nested mapping is laid over."""
    if field.default_factory is not MISSING:
        return field.default_factory()
    return None if field.default is MISSING else field.default


def _named(kind: Any) -> str:
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(str(option) for option in get_args(kind))
    if get_origin(kind) is tuple:
        return "a list"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "one of " + ", ".join(kind.__members__)
    return names.get(kind, "a path" if kind is Path else str(kind))


def _shown(value: object) -> str:
    return "null" if value is None else repr(value)
