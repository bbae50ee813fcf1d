"""Does every program that can read an exported project see the same cameras, points and depth?"""

from mem3r_check.check import CheckReport, ReaderReport, check_project

__all__ = ["CheckReport", "ReaderReport", "check_project"]
