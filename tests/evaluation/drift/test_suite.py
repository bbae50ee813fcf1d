from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mem3r_plugin.errors import ConfigError
from mem3r_plugin.evaluation.drift import DriftConfig, run_drift, suite
from mem3r_plugin.evaluation.drift.contestants import STANDING_STILL
from mem3r_plugin.evaluation.drift.courses import Course
from mem3r_plugin.evaluation.drift.results import WORLDS, DriftResults
from mem3r_plugin.evaluation.drift.traces import Trace
from mem3r_plugin.model.checkpoint import write_checkpoint
from mem3r_plugin.model.weights import random_network
from tests.evaluation.room_sequence import write_room_sequence
from tests.model.networks import CUT3R, MEM3R


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    for seed in range(2):
        network = random_network(replace(MEM3R, picture_size=64), seed)
        write_checkpoint(network, folder / f"mem3r-{seed}.safetensors")
    write_checkpoint(random_network(replace(CUT3R, picture_size=48)), folder / "cut3r.safetensors")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_room_sequence(folder / "room_sequence")
    write_room_sequence(folder / "without_depth", depth=False)
    return folder


@pytest.fixture
def config(weights: Path, data: Path, tmp_path: Path) -> DriftConfig:
    seeds = f"{weights}/mem3r-0.safetensors,{weights}/mem3r-1.safetensors"
    return DriftConfig(
        contestants=(f"mem3r={seeds}:plain,filt3r",),
        lengths=(3, 6),
        worlds=1,
        data=(data,),
        output=tmp_path / "drift",
    )


def test_every_contestant_runs_once_over_every_course(config: DriftConfig) -> None:
    results, summary = run_drift(config)
    assert list(summary) == [STANDING_STILL, "mem3r", "mem3r+filt3r"]
    assert len(results.runs) == 6 * (1 + 2 * 2)
    kinds = {"room", "corridor", "street", "loop"}
    for name, groups in summary.items():
        assert set(groups) == {*kinds, "room_sequence", "without_depth", WORLDS}
        for rows in groups.values():
            assert [row["frames"] for row in rows] == [3, 6]
            assert all(row["ate"] > 0 for row in rows)
            assert all((row["ate_spread"] is None) == (name == STANDING_STILL) for row in rows)
        assert groups["without_depth"][-1]["abs_rel"] is None
        assert groups["without_depth"][-1]["chamfer"] is None
    assert all(row["ate"] == 1 for row in summary[STANDING_STILL][WORLDS])
    assert all(summary[STANDING_STILL][kind][-1]["chamfer"] > 0 for kind in kinds)
    stored = json.loads((config.output / "drift.json").read_text())
    assert stored["summary"] == summary
    assert stored["runs"] == results.runs
    assert {len(run["weights_sha256"]) for run in stored["runs"] if run["weights"]} == {64}
    assert stored["machine"]["torch"]


def test_no_run_is_made_twice(
    config: DriftConfig, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = replace(config, contestants=(f"old={weights}/mem3r-0.safetensors",))
    _, before = run_drift(first)
    runs: list[str] = []
    made = suite.run_over

    def counted(courses: list[Course], *rest: Any) -> list[Trace]:
        runs.extend(course.name for course in courses)
        return made(courses, *rest)

    monkeypatch.setattr(suite, "run_over", counted)
    results, _ = run_drift(first)
    assert runs == []
    added = (*first.contestants, f"new={weights}/cut3r.safetensors")
    _, after = run_drift(replace(first, contestants=added))
    assert len(runs) == 6
    assert after["old"] == before["old"]
    results, renamed = run_drift(
        replace(config, contestants=(f"name={weights}/mem3r-0.safetensors",))
    )
    assert len(runs) == 6
    assert renamed["name"] == before["old"]
    assert len(results.runs) == 18


def test_a_stopped_suite_goes_on(config: DriftConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    worlds = replace(config, data=())
    _, straight = run_drift(replace(worlds, output=config.output / "straight"))
    runs: list[str] = []
    made = suite.run_over

    def run_or_stop(courses: list[Course], *rest: Any) -> list[Trace]:
        if len(runs) == 2:
            raise KeyboardInterrupt
        runs.append(courses[0].name)
        return made(courses, *rest)

    monkeypatch.setattr(suite, "run_over", run_or_stop)
    with pytest.raises(KeyboardInterrupt):
        run_drift(worlds)
    monkeypatch.setattr(suite, "run_over", made)
    _, resumed = run_drift(worlds)
    assert resumed == straight


def test_other_settings_do_not_mix(config: DriftConfig) -> None:
    worlds = replace(config, data=())
    run_drift(worlds)
    with pytest.raises(ConfigError, match="made with other settings"):
        run_drift(replace(worlds, stride=2))
    (config.output / "drift.json").write_text("{")
    with pytest.raises(ConfigError, match="is damaged"):
        run_drift(worlds)


def test_other_pictures_do_not_mix(config: DriftConfig, weights: Path, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    write_room_sequence(here / "room")
    write_room_sequence(there / "room", frames=5)
    ours = replace(
        config, worlds=0, data=(here,), contestants=(f"a={weights}/mem3r-0.safetensors",)
    )
    run_drift(ours)
    both = (*ours.contestants, f"b={weights}/mem3r-1.safetensors")
    with pytest.raises(ConfigError, match="when room was another sequence"):
        run_drift(replace(ours, data=(there,), contestants=both))


@pytest.mark.parametrize(
    "changes", [{"lengths": (2,)}, {"lengths": ()}, {"stride": 0}, {"data": (Path("gone"),)}]
)
def test_what_cannot_be_run_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        DriftConfig(**changes)  # type: ignore[arg-type]


def run_of(sha256: str | None, rule: str, sequence: str, ate: float | None) -> dict[str, object]:
    return {
        "weights_sha256": sha256,
        "rule": rule,
        "sequence": sequence,
        "group": "room",
        "world": True,
        "errors": [{"frames": 50, "ate": ate, "abs_rel": 0.5}],
        "chamfer": None,
    }


def test_means_are_of_sequences_then_seeds(tmp_path: Path) -> None:
    results = DriftResults(tmp_path, {})
    for sequence, still, ours in (("room-0", 2.0, (1.0, 2.0)), ("room-1", 4.0, (3.0, 2.0))):
        results.runs.append(run_of(None, STANDING_STILL, sequence, still))
        for sha256, ate in zip("ab", ours, strict=True):
            results.runs.append(run_of(sha256, "plain", sequence, ate))
    row = suite.Contestant("ours", ("first", "second"), "plain")
    summary = results.summary([row], {"first": "a", "second": "b"})
    (absolute,), (relative,) = summary["ours"]["room"], summary["ours"][WORLDS]
    assert (absolute["ate"], absolute["ate_spread"]) == (2.0, 0.0)
    assert relative["ate"] == pytest.approx((0.5 + 0.75 + 1.0 + 0.5) / 4)
    assert relative["ate_spread"] == pytest.approx((0.75 - 0.625) / 2**0.5)


def test_what_fails_is_not_averaged_away(tmp_path: Path) -> None:
    results = DriftResults(tmp_path, {})
    for sequence, ours in (("room-0", 1.0), ("room-1", None)):
        results.runs.append(run_of(None, STANDING_STILL, sequence, 2.0))
        results.runs.append(run_of("a", "plain", sequence, ours))
    summary = results.summary([suite.Contestant("ours", ("w",), "plain")], {"w": "a"})
    assert summary["ours"]["room"][0]["ate"] is None
    assert summary["ours"]["room"][0]["abs_rel"] == 0.5


def test_states_start_anew_as_often_as_asked(config: DriftConfig, weights: Path) -> None:
    asked = replace(config, contestants=(f"mem3r={weights}/mem3r-0.safetensors",), data=())
    own, never, often = (
        run_drift(replace(asked, reset_interval=interval, output=config.output / str(interval)))
        for interval in (None, 0, 2)
    )
    assert never[1]["mem3r"] == own[1]["mem3r"]  # these weights never do
    assert often[1]["mem3r"] != own[1]["mem3r"]
    with pytest.raises(ConfigError, match="'reset_interval': 2"):
        run_drift(replace(asked, output=config.output / "2"))
