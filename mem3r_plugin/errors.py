"""Errors a user can act on.

Everything that goes wrong because of the input, the disk or the settings is raised as a
`Mem3RError`: the command line prints its message as one line and exits with status 1, a
Python caller catches one base class. Anything else that escapes is a bug and keeps its
traceback.
"""

from __future__ import annotations


class Mem3RError(Exception):
    """Base of all errors with a message meant for the user: what, where, and what to do."""


class SourceError(Mem3RError):
    """A video, image folder or camera cannot be read."""


class FrameSkipped(Mem3RError):  # noqa: N818 - it is a decision about one frame, not a failure
    """One frame cannot be used; the stream goes on without it."""


class WeightsError(Mem3RError):
    """A checkpoint is missing, unsafe to load, or of the wrong shape."""


class ConfigError(Mem3RError):
    """A configuration file or option has an unknown name or an impossible value."""


class ScanError(Mem3RError):
    """A scan folder is missing, damaged, or does not fit the settings of this run."""


class OutputError(Mem3RError):
    """Something could not be written, for example because the disk is full."""


class ProjectError(Mem3RError):
    """An exported project is damaged, or programs that read it disagree."""
