"""Work that kills whoever does it."""

import os
import signal

from mem3r_plugin.batch import Outcome, make_scan
from mem3r_plugin.stream.run import RunConfig


def make_or_die(config: RunConfig, threads: int) -> Outcome:
    """`make_scan`, deadly for a scan that is called b."""
    if config.output.name == "b":
        os.kill(os.getpid(), signal.SIGKILL)
    return make_scan(config, threads)
