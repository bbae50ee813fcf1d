"""The frames of a refined scan written so that no frame is lost when the work is interrupted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from mem3r_plugin.files import write_atomically
from mem3r_plugin.refine.estimates import Estimates
from mem3r_plugin.scan import Scan, ScanMark, ScanSink
from mem3r_plugin.scan.format import FRAMES, MetricScale, ScanHeader
from mem3r_plugin.scan.reader import read_header

Result = Literal["refined", "aligned", "own"]
"""What a frame can be: refined; at its refined pose with the network's depth aligned to the points; as the
scan has it."""

_WRITTEN = "written.json"
_LINES = "written.jsonl"


@dataclass(frozen=True)
class _Line:
    """What the scan itself does not say of a frame that was written."""

    residual: float | None
    clipped: int


class ResultWriter:
    """Writes one result after another into the same scan, each going on where it was.

    Args:
        output: The refined scan, begun already; it stays incomplete.
        header: Its record.
        workspace: Folder for notes about what was written.
    """

    def __init__(self, output: Path, header: ScanHeader, workspace: Path) -> None:
        self._output, self._header = output, header
        self._marker, self._lines = workspace / _WRITTEN, workspace / _LINES

    @property
    def result(self) -> Result | None:
        """What the output holds, whole or in part."""
        if not self._marker.exists():
            return None
        found: Result = json.loads(self._marker.read_text())["result"]
        return found

    def write(
        self,
        result: Result,
        count: int,
        estimates: Callable[[int], Estimates],
        copy_images: bool = False,
    ) -> Scan:
        """Write the frames of a result that are missing.

        Args:
            result: What the frames are.
            count: Their number.
            estimates: Gives them, from a frame on.
            copy_images: They come with pictures of their own, which the scan keeps.
        """
        if self.result != result:
            self._lines.unlink(missing_ok=True)
            write_atomically(self._marker, json.dumps({"result": result}).encode())
        done = self._rewind()
        if len(done) < count or not done:
            self._append(done, estimates, copy_images)
        return Scan.open(self._output)

    def complete(self, scale: MetricScale | None) -> None:
        """Mark the scan as complete, with its scale, and make it durable."""
        lines = self._read()
        header = replace(read_header(self._output), scale=scale)
        mark = ScanMark(len(lines), header.skipped, lines[-1].clipped)
        sink = ScanSink(self._output, header, resume_from=mark)
        sink.open()
        sink.close(complete=True)

    def residuals(self) -> list[float | None]:
        """The depth residual of every frame that was written, as its estimate said."""
        return [line.residual for line in self._read()]

    def _append(
        self, done: list[_Line], estimates: Callable[[int], Estimates], copy_images: bool
    ) -> None:
        clipped = done[-1].clipped if done else 0
        begun = read_header(self._output) if done else self._header
        sink = ScanSink(
            self._output,
            begun,
            copy_images=copy_images,
            resume_from=ScanMark(len(done), self._header.skipped, clipped),
        )
        try:
            sink.open()
            with self._lines.open("ab", buffering=0) as lines:
                for estimate, residual in estimates(len(done)):
                    sink.write(estimate)
                    line = {"residual": residual, "clipped": sink.mark.clipped_depths}
                    lines.write((json.dumps(line) + "\n").encode())
        finally:
            sink.close(complete=False)

    def _rewind(self) -> list[_Line]:
        """Frames that are written and noted; what goes beyond is forgotten."""
        frames = self._output / FRAMES
        written = frames.read_bytes().count(b"\n") if frames.exists() else 0
        lines = self._read()[:written]
        text = "".join(json.dumps(vars(line)) + "\n" for line in lines)
        write_atomically(self._lines, text.encode())
        return lines

    def _read(self) -> list[_Line]:
        if not self._lines.exists():
            return []
        whole = self._lines.read_bytes().split(b"\n")[:-1]
        return [_Line(**json.loads(line)) for line in whole]
