"""Measured runs on disk, so that none is made twice, and what they say together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mem3r_plugin.errors import ConfigError
from mem3r_plugin.evaluation.drift.contestants import STANDING_STILL, Contestant
from mem3r_plugin.exports.files import write_file
from mem3r_plugin.machine import describe_machine

FORMAT = "mem3r-drift 1"
FILE = "drift.json"
WORLDS = "worlds"
"""The group of all kinds of worlds together, whose errors are in units of standing still."""

Run = dict[str, Any]
"""One contestant over one course, as in the file: `weights`, `weights_sha256`, `rule`, `sequence`, `group`,
`world` (whether it is one), `size` (width and height), `truth` (a digest), `seconds`, `errors` (a list by
length), `chamfer`."""


@dataclass
class DriftResults:
    """All runs in one folder."""

    folder: Path
    """Where `drift.json` lies."""
    settings: dict[str, Any]
    """What every run must share."""
    runs: list[Run] = field(default_factory=list)
    """Runs in the order in which they were made."""

    @classmethod
    def open(cls, folder: Path, settings: dict[str, Any]) -> DriftResults:
        """The results in a folder, none where it is new.

        Raises:
            ConfigError: what lies there is damaged or was made with other settings.
        """
        path = folder / FILE
        if not path.is_file():
            return cls(folder, settings)
        try:
            content = json.loads(path.read_text())
            found, runs = content["settings"], content["runs"]
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{path} is damaged: delete it, or choose another --output"
            ) from error
        if content.get("format") != FORMAT or found != settings:
            raise ConfigError(
                f"{path} was made with other settings ({found}, now {settings}); choose another --output"
            )
        return cls(folder, settings, runs)

    def find(self, sha256: str | None, rule: str, sequence: str) -> Run | None:
        """The run of some weights under a rule, if it was made; no weights for standing still."""
        wanted = {"weights_sha256": sha256, "rule": rule, "sequence": sequence}
        return next((run for run in self.runs if wanted.items() <= run.items()), None)

    def check_truth(self, sequence: str, size: list[int], digest: str) -> None:
        """Refuse to put runs over different pictures into one table.

        Raises:
            ConfigError: earlier runs saw another sequence under this name.
        """
        for run in self.runs:
            same = (run["sequence"], run["size"]) == (sequence, size)
            if same and run["truth"] != digest:
                raise ConfigError(
                    f"{self.folder / FILE} was made when {sequence} was another sequence; "
                    "choose another --output"
                )

    def add(self, run: Run) -> None:
        """Keep a run, on disk as well."""
        self.runs.append(run)
        self.write({})

    def write(self, summary: dict[str, Any]) -> None:
        """Write the file, whole or not at all.

        Raises:
            OutputError: it cannot be written.
        """
        content = {
            "format": FORMAT,
            "settings": self.settings,
            "machine": describe_machine(),
            "summary": summary,
            "runs": self.runs,
        }
        text = json.dumps(content, indent=1, allow_nan=False) + "\n"
        write_file(self.folder / FILE, text.encode())

    def summary(
        self, contestants: Sequence[Contestant], digests: dict[str, str]
    ) -> dict[str, dict[str, list[dict[str, Any]]]]:
        """Errors of every contestant, by group and then length.

        Of every error the mean over the group's sequences, then over seeds, and as `NAME_spread` the
        standard deviation over seeds, None for a single one. The group `worlds` has the errors of all
        worlds in units of standing still.

        Args:
            contestants: the rows.
            digests: SHA-256 of their weights.
        """
        still = {run["sequence"]: run for run in self.runs if run["rule"] == STANDING_STILL}
        rows: dict[str, list[list[Run]]] = {STANDING_STILL: [list(still.values())]}
        for contestant in contestants:
            hashes = [digests[weights] for weights in contestant.weights]
            rows[contestant.name] = [
                [
                    run
                    for run in self.runs
                    if (run["weights_sha256"], run["rule"]) == (sha256, contestant.rule)
                    and run["sequence"] in still
                ]
                for sha256 in hashes
            ]
        return {name: _summarise(seeds, still) for name, seeds in rows.items()}


def _summarise(seeds: list[list[Run]], still: dict[str, Run]) -> dict[str, list[dict[str, Any]]]:
    """By group, the errors at every length, averaged over sequences and then over seeds."""
    groups = dict.fromkeys(run["group"] for run in seeds[0])
    summary = {
        group: _by_length(
            [[row for run in runs if run["group"] == group for row in _rows(run)] for runs in seeds]
        )
        for group in groups
    }
    relative = [
        [row for run in runs if run["world"] for row in _relative(run, still[run["sequence"]])]
        for runs in seeds
    ]
    return summary | ({WORLDS: _by_length(relative)} if any(relative) else {})


def _rows(run: Run) -> list[dict[str, Any]]:
    """The errors of a run, a row for each length; that of the whole course has its Chamfer distance."""
    *shorter, whole = run["errors"]
    return [*shorter, whole | {"chamfer": run["chamfer"]}]


def _relative(run: Run, still: Run) -> list[dict[str, Any]]:
    """Errors of a run divided by those of standing still."""
    return [
        {
            "frames": row["frames"],
            **{
                name: row[name] / base[name] if row[name] is not None and base[name] else None
                for name in ("ate", "abs_rel", "chamfer")
                if name in row
            },
        }
        for row, base in zip(_rows(run), _rows(still), strict=True)
    ]


def _by_length(seeds: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    lengths = sorted({row["frames"] for rows in seeds for row in rows})
    result = []
    for length in lengths:
        at_length = [[row for row in rows if row["frames"] == length] for rows in seeds]
        names = [name for name in at_length[0][0] if name != "frames"]
        merged: dict[str, Any] = {"frames": length}
        for name in names:
            means = [_mean([row[name] for row in rows]) for rows in at_length]
            merged[name] = _mean(means)
            merged[f"{name}_spread"] = _spread(means)
        result.append(merged)
    return result


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean; None where any value is missing, for what fails must not look better than what does not."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None


def _spread(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.std(known, ddof=1)) if len(known) > 1 else None
