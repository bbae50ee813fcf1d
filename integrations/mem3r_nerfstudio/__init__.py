"""A Mem3R scan in nerfstudio: a project that stock nerfstudio trains on, and the dataparser `mem3r-data`.

Writing a project needs no nerfstudio; `mem3r_nerfstudio.dataparser` does.
"""

from mem3r_nerfstudio.export import (
    NerfstudioExportConfig,
    NerfstudioReport,
    export_nerfstudio,
)

__all__ = ["NerfstudioExportConfig", "NerfstudioReport", "export_nerfstudio"]
