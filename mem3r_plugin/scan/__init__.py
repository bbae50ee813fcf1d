"""The scan on disk: its format, the sink that writes it and the reader."""

from mem3r_plugin.scan.reader import Scan
from mem3r_plugin.scan.structure import Structure
from mem3r_plugin.scan.writer import ScanMark, ScanSink

__all__ = ["Scan", "ScanMark", "ScanSink", "Structure"]
