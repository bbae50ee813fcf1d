"""Update rules: training-free gates on what a frame may write to the state.

A rule is a class with the interface of `UpdateRule`, registered in the entry-point group
`mem3r_plugin.update_rules`; another package can add its own there without touching this one.
"""

from mem3r_plugin.model.updates.registry import available_rules, load_rule
from mem3r_plugin.model.updates.rule import UpdateContext, UpdateRule

__all__ = ["UpdateContext", "UpdateRule", "available_rules", "load_rule"]
