"""`mem3r bench`: how fast a network runs on this machine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from mem3r_plugin.bench import BenchConfig, bench
from mem3r_plugin.commands.options import parse_options
from mem3r_plugin.memory_allocator import keep_freed_memory


@dataclass(frozen=True)
class Bench(BenchConfig):
    """Measure frames a second, where the time goes, memory, and the share of the machine's peak.

    A whole run into a scan, sinks and all; leave the machine idle meanwhile.
    """

    json: bool = False
    """Print one JSON object instead of a table."""

    def __call__(self) -> None:
        """Measure and print."""
        keep_freed_memory()  # as `mem3r run` does
        result = bench(self)
        if self.json:
            print(json.dumps(result, indent=1))
        else:
            Console().print(_table(result))


def _table(result: dict[str, Any]) -> Table:
    settings, speed = result["settings"], result["frames_per_second"]
    title = f"{settings['model']} {settings['size']} {settings['update']} {settings['precision']}"
    table = Table("what", "measured", title=title)
    table.columns[1].justify = "right"
    table.add_row("frames a second, median", f"{speed['median']:.2f}")
    table.add_row("quartiles", f"{speed['lower']:.2f} … {speed['upper']:.2f}")
    table.add_section()
    for name, milliseconds in result["stages_ms"].items():
        table.add_row(f"{name}, ms a frame", f"{milliseconds:.1f}")
    if result["machine"]["gpu"]:
        table.add_row("steps replayed as CUDA graphs", f"{100 * result['replayed_share']:.0f} %")
    table.add_section()
    for name, rate in result["peak"].items():
        table.add_row(f"peak of {name.replace('_', ', ')}", f"{rate / 1e9:,.0f} GFLOP/s")
    for name in ("matmul", "matmul_and_attention"):
        share = f"{100 * result[f'share_of_{name}_peak']:.0f} %"
        table.add_row(f"share of the {name.replace('_', ' ')} peak", share)
    table.add_section()
    for memory in result["memory"]:
        for where in ("host", "device"):
            if f"{where}_mb" in memory:
                table.add_row(
                    f"most memory of the {where} until frame {memory['frames']}",
                    f"{memory[f'{where}_mb']:,.0f} MB",
                )
    return table


def parse(arguments: Sequence[str]) -> Bench:
    """Read the options of `mem3r bench`."""
    return parse_options(Bench, "bench", arguments)
