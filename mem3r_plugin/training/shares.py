"""Settings that are shares of something."""

from __future__ import annotations

from mem3r_plugin.errors import ConfigError


def check_shares(config: object, *names: str, within: str = "") -> None:
    """Refuse fields of a configuration that do not lie between 0 and 1.

    Args:
        config: a dataclass.
        names: its fields to check.
        within: where the configuration stands, such as `data.`, for the message.

    Raises:
        ConfigError: one of them is out of range.
    """
    for name in names:
        value = getattr(config, name)
        if not 0 <= value <= 1:
            raise ConfigError(f"{within}{name} = {value}: must lie between 0 and 1")
