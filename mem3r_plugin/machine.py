"""What this machine is: for those who choose by it, and beside every measurement."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch


def describe_machine() -> dict[str, Any]:
    """Processor, GPU, threads and versions; the commit, where this is a checkout."""
    return {
        "processor": _processor(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "mem3r-plugin": version("mem3r-plugin"),
        "commit": _commit(),
    }


def processor_capabilities() -> dict[str, object]:
    """Name of the processor and the units it has; empty where an older torch does not tell."""
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return capabilities


def _processor() -> str:
    capabilities = processor_capabilities()
    name = str(capabilities.get("cpu_name") or platform.processor() or platform.machine())
    units = [unit for unit in ("amx_bf16", "avx512_bf16") if capabilities.get(unit)]
    return f"{name} ({', '.join(units)})" if units else name


def _commit() -> str | None:
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()
