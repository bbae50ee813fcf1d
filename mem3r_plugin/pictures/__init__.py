"""Pictures of a scan: its trajectory and a contact sheet of its depth.

Figures are drawn without pyplot, so there is no window, no back end to choose and no global state.
"""

from mem3r_plugin.pictures.contact_sheet import depth_contact_sheet
from mem3r_plugin.pictures.refinement import refined_depth_sheet, refined_trajectory_plot
from mem3r_plugin.pictures.trajectory import trajectory_plot

__all__ = [
    "depth_contact_sheet",
    "refined_depth_sheet",
    "refined_trajectory_plot",
    "trajectory_plot",
]
