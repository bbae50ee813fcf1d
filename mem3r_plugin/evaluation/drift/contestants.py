"""Who is compared: weights under update rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mem3r_plugin.errors import ConfigError, WeightsError
from mem3r_plugin.model.checkpoint import Checkpoint, read_checkpoint
from mem3r_plugin.model.config import NetworkConfig
from mem3r_plugin.model.updates import load_rule
from mem3r_plugin.model.weights import find_weights

STANDING_STILL = "standing still"
"""The baseline, always there: a camera that never moves, and the mean depth of the training worlds."""


@dataclass(frozen=True)
class Contestant:
    """One row of the table."""

    name: str
    """What it is called."""
    weights: tuple[str, ...]
    """One for each seed it was trained with: bundled names, files or Hugging Face repositories."""
    rule: str
    """Its update rule."""


def read_contestants(words: Sequence[str]) -> list[Contestant]:
    """Contestants of words like `NAME=WEIGHTS[,WEIGHTS…][:RULE[,RULE…]]`.

    Under another rule than `plain`, which is the default, the row is called `NAME+RULE`.

    Raises:
        ConfigError: a word is written otherwise, a rule is unknown, or two rows have one name.
    """
    contestants = []
    for word in words:
        name, _, rest = word.partition("=")
        weights, _, rules = rest.partition(":")
        files = tuple(filter(None, weights.split(",")))
        if not name or not files:
            raise ConfigError(
                f"contestant '{word}': write NAME=WEIGHTS[,WEIGHTS...][:RULE[,RULE...]]"
            )
        for rule in rules.split(",") if rules else ["plain"]:
            load_rule(rule)
            row = name if rule == "plain" else f"{name}+{rule}"
            contestants.append(Contestant(row, files, rule))
    names = [contestant.name for contestant in contestants] + [STANDING_STILL]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two contestants are called '{name}'; give each a name of its own")
    return contestants


def read_network(weights: str) -> tuple[Checkpoint, NetworkConfig]:
    """Weights and the network they say they belong to.

    Raises:
        WeightsError: they cannot be read, or do not say (CUT3R's checkpoints do not).
    """
    checkpoint = read_checkpoint(find_weights(weights))
    if checkpoint.config is None:
        raise WeightsError(
            f"{weights} does not say its network; `mem3r convert` makes weights that do"
        )
    return checkpoint, checkpoint.config
