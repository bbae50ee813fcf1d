"""nerfstudio's dataparser `mem3r-data`: `ns-train METHOD --data walk.mp4 mem3r-data`.

It writes the project that `mem3r export nerfstudio` writes, once, and reads it with nerfstudio's own
`nerfstudio-data`. So there is one place where conventions are translated, and cameras, seed points and
depth are those of the exported project.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.dataparsers.nerfstudio_dataparser import (
    Nerfstudio,
    NerfstudioDataParserConfig,
)
from nerfstudio.plugins.registry_dataparser import DataParserSpecification

from mem3r_nerfstudio.export import REPORT, TRANSFORMS
from mem3r_nerfstudio.project import provide_project
from mem3r_nerfstudio.torch_load import allow_numpy_scalars

allow_numpy_scalars()


@dataclass
class Mem3RDataParserConfig(NerfstudioDataParserConfig):
    """A scan, video or folder of pictures as training data; other options are nerfstudio-data's."""

    _target: type = field(default_factory=lambda: Mem3RDataParser)
    data: Path = Path()
    """A scan, a video or a folder of pictures; a project of `mem3r export nerfstudio` works too."""
    project: Path | None = None
    """Folder for the scan and the project made from it, kept for next time; by default it lies beside
    the data and is called like it, with `.mem3r` behind."""
    model: str = "mem3r-tiny"
    """Network that reconstructs a video or a folder of pictures: a preset, or a YAML file."""
    weights: str | None = None
    """Its weights: bundled name, file or Hugging Face repository; by default those named like it."""
    load_3D_points: bool = True  # noqa: N815 - nerfstudio's name
    """Whether to load the seed points."""


class Mem3RDataParser(Nerfstudio):
    """Reads a scan, and adds to nerfstudio's metadata what nerfstudio does not know.

    * `confidence_filenames`: 8-bit `round(255 * (1 - 1 / confidence))` of every depth map, 0 = none,
    * `metres_per_unit`: of the project's unit of length, before nerfstudio's own scaling; None: unknown.
      A nerfstudio unit is therefore `metres_per_unit / dataparser_scale` metres long.
    """

    config: Mem3RDataParserConfig

    def _generate_dataparser_outputs(self, split: str = "train", **_: Any) -> DataparserOutputs:
        if not (self.config.data / TRANSFORMS).exists():
            self.config.data = provide_project(
                self.config.data, self.config.project, self.config.model, self.config.weights
            )
        outputs = super()._generate_dataparser_outputs(split)
        outputs.metadata.update(_extras(self.config.data, outputs.image_filenames))
        return outputs


def _extras(project: Path, images: list[Path]) -> dict[str, Any]:
    frames = json.loads((project / TRANSFORMS).read_text())["frames"]
    confidence = {
        project / frame["file_path"]: frame["confidence_file_path"]
        for frame in frames
        if "confidence_file_path" in frame
    }
    report = project / REPORT
    return {
        "confidence_filenames": [project / confidence[image] for image in images]
        if confidence
        else None,
        "metres_per_unit": json.loads(report.read_text())["metres_per_unit"]
        if report.exists()
        else None,
    }


mem3r_data = DataParserSpecification(
    config=Mem3RDataParserConfig(), description="Mem3R: a scan, a video or a folder of pictures"
)
"""What the entry point `mem3r-data` registers."""
