"""A scan is written so that every moment of it can be the last."""

import multiprocessing
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from mem3r_plugin.errors import OutputError, ScanError
from mem3r_plugin.geometry import ImageTransform
from mem3r_plugin.scan import Scan, ScanSink
from mem3r_plugin.scan.format import ENTRIES
from mem3r_plugin.stream.source import SkippedFrame
from tests.scan.estimates import header, make_estimates, write_scan
from tests.stream.small_model import tree


def test_same_estimates_give_the_same_bytes(tmp_path):
    write_scan(tmp_path / "first")
    write_scan(tmp_path / "second")
    assert tree(tmp_path / "first") == tree(tmp_path / "second")


def test_nothing_but_the_format_is_left(tmp_path):
    write_scan(tmp_path / "scan", count=2)
    assert {path.name for path in (tmp_path / "scan").iterdir()} == set(ENTRIES) - {
        "state",
        "structure.npz",
    }
    for kind in ("depth", "confidence", "images"):
        names = sorted(path.name for path in (tmp_path / "scan" / kind).iterdir())
        assert names == ["000000.png", "000001.png"]


def test_scan_in_the_way_is_kept_unless_told_otherwise(tmp_path):
    write_scan(tmp_path / "scan", count=5)
    before = tree(tmp_path / "scan")
    with pytest.raises(OutputError, match=r"already holds a scan.*--resume.*--overwrite"):
        write_scan(tmp_path / "scan", count=2)
    assert tree(tmp_path / "scan") == before
    (tmp_path / "scan" / "notes.txt").write_text("mine")
    sink = ScanSink(tmp_path / "scan", header(), copy_images=True, overwrite=True)
    sink.open()
    for estimate in make_estimates(2):
        sink.write(estimate)
    sink.close(complete=True)
    assert len(Scan.open(tmp_path / "scan")) == 2
    assert not (tmp_path / "scan" / "depth" / "000002.png").exists()
    assert (tmp_path / "scan" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("overwrite", [False, True])
def test_folder_of_other_things_is_never_taken(tmp_path, overwrite):
    (tmp_path / "thesis.tex").write_text("years of work")
    sink = ScanSink(tmp_path, header(), overwrite=overwrite)
    with pytest.raises(OutputError, match=r"not empty and not a scan.*thesis\.tex"):
        sink.open()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_place_that_cannot_be_a_folder_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "scan"):
        with pytest.raises(OutputError, match=f"cannot write {tmp_path / 'file'}"):
            ScanSink(path, header()).open()


def write_forever(path, ready) -> None:
    sink = ScanSink(path, header(), copy_images=True)
    sink.open()
    for estimate in make_estimates(2):
        sink.write(estimate)
    ready.set()
    time.sleep(600)


def test_one_process_at_a_time_writes_a_scan(tmp_path):
    path, context = tmp_path / "scan", multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=write_forever, args=(path, ready))
    process.start()
    assert ready.wait(60)
    before = tree(path)
    second = ScanSink(path, header(), copy_images=True, overwrite=True)
    with pytest.raises(OutputError, match=r"scan is being written by another process.*--resume"):
        second.open()
    assert tree(path) == before
    process.kill()
    process.join()
    second.open()  # a killed writer holds nobody up
    second.write(next(iter(make_estimates(1))))
    second.close(complete=True)
    assert len(Scan.open(path)) == 1


def test_a_sink_may_be_closed_in_another_thread(tmp_path):
    sink = ScanSink(tmp_path / "scan", header())
    sink.open()
    other = threading.Thread(target=sink.close, args=(False,))
    other.start()
    other.join()
    ScanSink(tmp_path / "scan", header(), overwrite=True).open()


@pytest.mark.parametrize("kept", [1, 3, 5])
def test_rewinding_to_a_mark_and_going_on_gives_the_same_scan(tmp_path, kept):
    skipped = [
        SkippedFrame(3, "frame_000003.png", "is black"),
        SkippedFrame(9, "x.png", "is black"),
    ]

    def write_from(sink, first, last):
        for estimate in list(make_estimates(6))[first:last]:
            sink.write(estimate)
            if sink.mark.frames == 1:
                sink.skip(skipped[0])
        return sink.mark

    whole = ScanSink(tmp_path / "whole", header(), copy_images=True)
    whole.open()
    write_from(whole, 0, 6)
    whole.close(complete=True)

    broken = ScanSink(tmp_path / "broken", header(), copy_images=True)
    broken.open()
    mark = write_from(broken, 0, kept)
    write_from(broken, kept, 6)
    broken.skip(skipped[1])  # behind the mark, so it is forgotten
    broken.close(complete=False)
    with (tmp_path / "broken" / "frames.jsonl").open("a") as lines:
        lines.write('{"index": 6, "na')
    (tmp_path / "broken" / "depth" / ".000006.png.tmp").write_bytes(b"half")

    recorded = Scan.open(tmp_path / "broken").header
    again = ScanSink(tmp_path / "broken", recorded, copy_images=True, resume_from=mark)
    again.open()
    assert len(Scan.open(tmp_path / "broken")) == kept
    write_from(again, kept, 6)
    again.close(complete=True)
    assert tree(tmp_path / "broken") == tree(tmp_path / "whole")


def test_rewinding_a_scan_that_lost_lines_is_refused(tmp_path):
    mark = write_scan(tmp_path / "scan", complete=False).mark
    lines = tmp_path / "scan" / "frames.jsonl"
    lines.write_bytes(lines.read_bytes()[:-3])
    with pytest.raises(ScanError, match=r"frames\.jsonl has lost its line 5"):
        ScanSink(tmp_path / "scan", header(), resume_from=mark).open()


def test_depth_beyond_the_code_is_clipped_and_counted(tmp_path):
    sink = ScanSink(tmp_path / "scan", header(), copy_images=True)
    sink.open()
    near, far = make_estimates(2)
    far.depth[3, :4] = 1e6
    sink.write(near)
    sink.write(far)
    sink.close(complete=True)
    scan = Scan.open(tmp_path / "scan")
    assert scan.header.clipped_depths == 4
    assert (scan.depth(1)[3, :4] == np.float32(65535 * scan.depth_unit)).all()


def test_frame_of_another_size_is_refused(tmp_path):
    sink = ScanSink(tmp_path / "scan", header())
    sink.open()
    first, second = make_estimates(2)
    sink.write(first)
    with pytest.raises(ScanError, match=r"frame_000001\.png differs in size"):
        sink.write(replace(second, transform=ImageTransform.identity((64, 32))))
    sink.close(complete=False)
    assert len(Scan.open(tmp_path / "scan")) == 1


def test_closing_twice_or_unopened_does_nothing(tmp_path):
    sink = write_scan(tmp_path / "scan")
    sink.close(complete=False)
    assert Scan.open(tmp_path / "scan").complete
    ScanSink(tmp_path / "other", header()).close(complete=True)
    assert not (tmp_path / "other").exists()
