"""How fast a network runs here, from picture to scan, and what of the machine it makes use of."""

from mem3r_plugin.bench.bench import BenchConfig, bench

__all__ = ["BenchConfig", "bench"]
