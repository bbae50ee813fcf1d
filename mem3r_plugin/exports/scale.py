"""What an export says about its unit of length, which is always the scan's own."""

from __future__ import annotations

from mem3r_plugin.scan import Scan


def describe_scale(scan: Scan) -> str:
    """One line: metres per unit with uncertainty and source, or that they are unknown."""
    scale = scan.scale
    if scale is None:
        return "metres per unit: unknown"
    percent = 100 * scale.relative_uncertainty
    return f"metres per unit: {scale.metres_per_unit:.9g} (+- {percent:.2g} %), from {scale.source}"
