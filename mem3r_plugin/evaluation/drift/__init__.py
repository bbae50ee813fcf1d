"""How errors grow with the length of a sequence: several weights and update rules over the same pictures.

`suite.run_drift` takes contestants over courses (held-back worlds and real sequences), once each over the
longest length; as the front end never sees a later frame, the beginning of that run is what a shorter one
would be.
"""

from mem3r_plugin.evaluation.drift.contestants import Contestant, read_contestants
from mem3r_plugin.evaluation.drift.results import DriftResults
from mem3r_plugin.evaluation.drift.suite import DriftConfig, run_drift

__all__ = ["Contestant", "DriftConfig", "DriftResults", "read_contestants", "run_drift"]
