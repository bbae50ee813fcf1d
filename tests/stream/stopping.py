"""A run that is stopped on the way."""

from __future__ import annotations


class Stopping:
    """A sink that ends the run at the fifth frame, as Ctrl-C would."""

    def open(self):
        pass

    def write(self, estimate):
        if estimate.frame.index == 4:
            raise KeyboardInterrupt

    def close(self, complete):
        pass
