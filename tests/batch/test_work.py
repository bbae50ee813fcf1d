"""One process at a time writes a scan, and nothing that happens to it stops others."""

import multiprocessing
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mem3r_plugin.batch import Outcome, ScanOptions, make_scan, work
from mem3r_plugin.batch.work import _sole_writer
from tests.stream.pictures import write_pictures

PROCESSES = multiprocessing.get_context("fork")


@pytest.fixture
def job(options: ScanOptions, tmp_path: Path) -> ScanOptions:
    source = write_pictures(tmp_path / "walk", [f"{i}.png" for i in range(5)], 64, 48)
    return replace(options, source=str(source), output=tmp_path / "scans" / "walk")


def hold(scan: Path, ready) -> None:
    with _sole_writer(scan, patience=0):
        ready.set()
        time.sleep(600)


@pytest.fixture
def writer(job):
    """Another process that writes the scan, or would."""
    ready = PROCESSES.Event()
    process = PROCESSES.Process(target=hold, args=(job.output, ready))
    process.start()
    assert ready.wait(60)
    yield process
    process.kill()
    process.join()


def test_a_scan_that_another_process_writes_is_left_to_it(job, writer):
    outcome = make_scan(job, patience=0.1)
    assert outcome == Outcome(job.output, 0, 0, outcome.failure)
    assert outcome.failure is not None and "being written by another process" in outcome.failure
    assert not job.output.exists()


def test_other_scans_are_free(job, writer):
    other = replace(job, output=job.output.with_name("other"))
    assert make_scan(other, patience=0) == Outcome(other.output, 5, 5)


def test_a_killed_writer_leaves_the_scan_to_the_next(job, writer):
    os.kill(writer.pid, signal.SIGKILL)
    assert make_scan(job, patience=60) == Outcome(job.output, 5, 5)


def test_a_writer_that_ends_leaves_the_scan_to_the_next(job):
    assert make_scan(job, patience=0) == Outcome(job.output, 5, 5)
    assert make_scan(job, patience=0) == Outcome(job.output, 5, 0)


def test_a_bug_keeps_its_traceback(job, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("somewhere")

    monkeypatch.setattr(work, "run", broken)
    outcome = make_scan(job)
    assert outcome.failure is not None
    assert outcome.failure.startswith("Traceback")
    assert "ZeroDivisionError: somewhere" in outcome.failure


def test_a_folder_that_cannot_be_made_is_named(job, tmp_path):
    (tmp_path / "file").write_text("")
    outcome = make_scan(replace(job, output=tmp_path / "file" / "walk"))
    assert outcome.failure is not None and str(tmp_path / "file") in outcome.failure
