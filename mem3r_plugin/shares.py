"""Settings that are shares of something."""

from __future__ import annotations

from mem3r_plugin.errors import ConfigError


def check_share(name: str, value: float) -> None:
    """Refuse a setting that does not lie between 0 and 1.

    Raises:
        ConfigError: it is out of range; the message calls it by its name.
    """
    if not 0 <= value <= 1:
        raise ConfigError(f"{name} = {value}: must lie between 0 and 1")
