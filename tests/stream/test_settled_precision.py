"""A scan says which arithmetic `auto` came to, and is continued with no other."""

from dataclasses import replace

import pytest

from mem3r_plugin.errors import ScanError
from mem3r_plugin.model import precision
from mem3r_plugin.scan import Scan
from mem3r_plugin.stream import window
from mem3r_plugin.stream.run import RunConfig, run
from tests.stream.pictures import write_pictures
from tests.stream.small_model import tree
from tests.stream.stopping import Stopping


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A run of the bundled network, which bears bfloat16."""
    monkeypatch.setattr(window, "LARGEST_WINDOW", 2)
    images = write_pictures(tmp_path / "images", [f"{i}.png" for i in range(6)], 64, 48)
    return RunConfig(str(images), tmp_path / "scan", size=64, device="cpu", checkpoint_every=2)


def set_fast(monkeypatch, fast: bool) -> None:
    """What this machine is fast in."""
    monkeypatch.setattr(precision, "fast_in_bfloat16", lambda device: fast)


def interrupt(config) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(config, sinks=[Stopping()], silent=True)
    assert (config.output / "state" / "checkpoint.safetensors").exists()


@pytest.mark.parametrize(("fast", "expected"), [(False, "float32"), (True, "bfloat16")])
def test_a_scan_records_the_precision_it_came_to(config, monkeypatch, fast, expected):
    set_fast(monkeypatch, fast)
    assert run(config, silent=True).header.settings["precision"] == expected
    assert Scan.open(config.output).header.settings["precision"] == expected


@pytest.mark.parametrize("fast", [False, True])
def test_a_scan_is_continued_in_the_same_precision(config, monkeypatch, tmp_path, fast):
    set_fast(monkeypatch, fast)
    run(replace(config, output=tmp_path / "whole"), silent=True)
    interrupt(config)
    run(replace(config, resume=True), silent=True)
    assert tree(config.output) == tree(tmp_path / "whole")


def test_the_precision_it_came_to_may_be_named(config, monkeypatch, tmp_path):
    set_fast(monkeypatch, False)
    run(replace(config, output=tmp_path / "whole"), silent=True)
    interrupt(config)
    set_fast(monkeypatch, True)
    run(replace(config, resume=True, precision="float32"), silent=True)
    assert tree(config.output) == tree(tmp_path / "whole")


@pytest.mark.parametrize(
    ("then", "now", "message"),
    [
        (False, True, "precision was 'float32' and is now 'bfloat16'"),
        (True, False, "precision was 'bfloat16' and is now 'float32'"),
    ],
)
def test_another_precision_than_it_was_begun_with_is_refused(
    config, monkeypatch, then, now, message
):
    set_fast(monkeypatch, then)
    interrupt(config)
    before = tree(config.output)
    set_fast(monkeypatch, now)
    with pytest.raises(ScanError) as failure:
        run(replace(config, resume=True), silent=True)
    assert str(failure.value) == (
        f"{config.output} cannot be resumed, it was begun with other settings: {message}"
    )
    assert tree(config.output) == before


def test_a_complete_scan_is_returned_whatever_its_precision(config, monkeypatch):
    set_fast(monkeypatch, True)
    run(config, silent=True)
    set_fast(monkeypatch, False)
    assert run(replace(config, resume=True), silent=True).complete
