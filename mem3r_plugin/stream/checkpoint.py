"""The state of an unfinished run, kept beside its scan."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from mem3r_plugin.errors import ScanError
from mem3r_plugin.files import write_atomically
from mem3r_plugin.scan.format import STATE
from mem3r_plugin.scan.output_errors import output_errors
from mem3r_plugin.scan.writer import ScanMark

_FILE = "checkpoint.safetensors"
_RECORD = "run"


@dataclass(frozen=True)
class Checkpoint:
    """Everything needed to go on with a run as if it had never stopped."""

    next_frame: int
    """Index of the first source frame that is still to be read."""
    mark: ScanMark
    """How far the scan had come."""
    tensors: dict[str, Tensor]
    """The front end's state, as `FrontEnd.save_state` gives it."""

    def save(self, scan: Path) -> None:
        """Replace the checkpoint of the scan in folder `scan`.

        Raises:
            OutputError: it cannot be written; the one before it stays.
        """
        record = json.dumps({"next_frame": self.next_frame, "mark": asdict(self.mark)})
        content = safetensors.torch.save(self.tensors, {_RECORD: record})
        with output_errors(scan):
            (scan / STATE).mkdir(exist_ok=True)
            write_atomically(scan / STATE / _FILE, content, durable=True)

    @classmethod
    def load(cls, scan: Path) -> Checkpoint | None:
        """The checkpoint of the scan in folder `scan`; None where the run had not come to one.

        Raises:
            ScanError: it is there but cannot be read.
        """
        file = scan / STATE / _FILE
        if not file.exists():
            return None
        try:
            with safetensors.safe_open(file, framework="pt") as content:
                record = json.loads(content.metadata()[_RECORD])
                tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118 - no dict
            mark = record["mark"]
            return cls(
                next_frame=record["next_frame"],
                mark=ScanMark(mark["frames"], tuple(mark["skipped"]), mark["clipped_depths"]),
                tensors=tensors,
            )
        except (safetensors.SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            raise ScanError(f"{file} is damaged ({error}); start again with --overwrite") from error
