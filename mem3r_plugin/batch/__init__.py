"""Many scans from a list of sources, on this machine or on a Ray cluster.

    for outcome in batch(BatchConfig(Path("walks.txt"), Path("scans"), engine="ray")):
        print(outcome)

Every scan is one run with `resume`, and one process at a time writes it. So whatever stops a batch, and
however often, the same call again completes what is missing and leaves alone what is complete.
"""

from mem3r_plugin.batch.batch import BatchConfig, ScanOptions, batch
from mem3r_plugin.batch.scan_list import read_list
from mem3r_plugin.batch.work import Outcome, make_scan

__all__ = ["BatchConfig", "Outcome", "ScanOptions", "batch", "make_scan", "read_list"]
