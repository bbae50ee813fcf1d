"""`mem3r demo`: the whole job on one clip, and what came of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mem3r_colmap import ColmapExportConfig, export_colmap
from mem3r_plugin.commands.options import parse_options
from mem3r_plugin.evaluation import PosedSequence, evaluate_scan, match_frames
from mem3r_plugin.exports import export_ply, export_tum
from mem3r_plugin.exports.files import write_file
from mem3r_plugin.pictures import depth_contact_sheet, trajectory_plot
from mem3r_plugin.scan import Scan
from mem3r_plugin.stream.run import RunConfig, run
from mem3r_plugin.training.worlds import HELD_BACK, sample_sequence, write_sequence

_SIZE = (320, 240)
_FPS = 15.0


@dataclass(frozen=True)
class Demo:
    """Go through the whole job on a clip: front end, exports, pictures, and errors against the truth.

    The clip is rendered from a world that training never saw, so its poses and depth are known. With
    --source the clip is your own, and there are no errors to tell.
    """

    source: str | None = None
    """A video, image folder or glob of your own."""
    output: Path = Path("demo_output")
    """Folder for everything that is written; an earlier demo's results there are replaced."""
    model: str = "mem3r-tiny"
    """Name of a model preset, or a YAML file."""
    weights: str | None = None
    """Bundled name, file or Hugging Face repository; by default those named like the model."""
    frames: int = 60
    """Length of the rendered clip."""
    seed: int = HELD_BACK + 1
    """Seed of the rendered world."""

    def __call__(self) -> None:
        """Run the job and print what was written and how good it is."""
        console = Console(highlight=False)
        clip = None if self.source else self._render_clip(console)
        source = self.source or str(self.output / "clip" / "rgb")
        options = RunConfig(
            source, self.output / "scan", model=self.model, weights=self.weights, overwrite=True
        )
        scan = run(options)
        written = self._export(scan, console)
        if clip is not None:
            errors = evaluate_scan(scan, clip)
            write_file(self.output / "errors.json", (json.dumps(errors, indent=2) + "\n").encode())
            written["errors.json"] = "errors against the truth, and of doing nothing"
            written["clip"] = f"rendered clip with true poses and depth, seed {self.seed}"
        self._draw(scan, clip)
        written["trajectory.png"] = "picture: camera path from above and from the side"
        written["depth.png"] = "picture: a few frames with depth and confidence"
        console.print(_written_table(self.output, written))
        if clip is not None:
            console.print(_error_table(errors))

    def _render_clip(self, console: Console) -> PosedSequence:
        console.print(f"rendering a clip of {self.frames} frames ...")
        views = sample_sequence(self.seed, self.frames, _SIZE, "room", supersample=2)
        folder = self.output / "clip"
        if (folder / "meta.json").exists():
            shutil.rmtree(folder)
        write_sequence(views, folder, _FPS)
        return PosedSequence.load(folder)

    def _export(self, scan: Scan, console: Console) -> dict[str, str]:
        """Write every format; what each is, by name."""
        console.print("exporting ...")
        colmap = export_colmap(scan, self.output / "colmap", ColmapExportConfig(overwrite=True))
        for warning in colmap.warnings:
            console.print(f"note: {warning}")
        export_tum(scan, self.output / "trajectory.txt")
        points = export_ply(scan, self.output / "cloud.ply")
        return {
            "scan": f"scan: poses, depth and confidence of {len(scan)} frames",
            "colmap": f"COLMAP project: {colmap.images} images, {colmap.points} points",
            "trajectory.txt": "trajectory in TUM's format",
            "cloud.ply": f"coloured cloud of {points} points",
        }

    def _draw(self, scan: Scan, clip: PosedSequence | None) -> None:
        truth = None if clip is None else clip.camera_to_world[match_frames(scan, clip)]
        trajectory_plot(scan, self.output / "trajectory.png", truth)
        depth_contact_sheet(scan, self.output / "depth.png")


def _written_table(output: Path, written: dict[str, str]) -> Table:
    table = Table("file or folder", "what it is", title=f"Written to {output}")
    for name, what in written.items():
        table.add_row(name, what)
    return table


def _error_table(errors: dict[str, Any]) -> Table:
    """Errors beside those of the trivial baseline."""
    title = "Errors against the truth, poses aligned by a similarity, depth by one scale"
    table = Table("", "Mem3R", "camera stands still,\nflat depth", title=title)
    for label, group, key, unit in (
        ("camera position (ATE)", "trajectory", "ate_rmse", " m"),
        ("step between frames (RPE)", "trajectory", "rpe_translation", " m"),
        ("turn between frames (RPE)", "trajectory", "rpe_rotation", "°"),
        ("depth (AbsRel)", "depth", "abs_rel", ""),
        ("depth within 25 %", "depth", "delta_125", ""),
    ):
        values = [errors[group], errors["baseline"][group]]
        cells = [f"{value[key]:.3f}{unit}" if value else "-" for value in values]
        table.add_row(label, *cells)
    return table


def parse(arguments: Sequence[str]) -> Demo:
    """Read the options of `mem3r demo`."""
    return parse_options(Demo, "demo", arguments)
