"""Update rules by name."""

from __future__ import annotations

from importlib.metadata import entry_points

from mem3r_plugin.errors import ConfigError
from mem3r_plugin.model.updates.rule import UpdateRule

GROUP = "mem3r_plugin.update_rules"
"""Entry-point group in which rules are registered; each entry names a class made without arguments."""


def available_rules() -> list[str]:
    """Names of all installed update rules, sorted."""
    return sorted({entry.name for entry in entry_points(group=GROUP)})


def load_rule(name: str) -> UpdateRule:
    """The update rule registered under `name`.

    Raises:
        ConfigError: no such rule is installed, or it cannot be imported.
    """
    entries = entry_points(group=GROUP, name=name)
    if not entries:
        raise ConfigError(
            f"unknown update rule '{name}'; installed are: {', '.join(available_rules())}"
        )
    entry = next(iter(entries))
    try:
        rule: UpdateRule = entry.load()()
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"update rule '{name}' ({entry.value}) cannot be loaded: {error}"
        ) from error
    return rule
