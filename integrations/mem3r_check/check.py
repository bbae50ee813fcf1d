"""`check_project`: ask every program, weigh the evidence, tell what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mem3r_check.cameras import check_agreement, check_pictures, check_seeds, check_sightings
from mem3r_check.colmap_files import read_colmap_files
from mem3r_check.colmap_readers import COLMAP_READERS, model_folder, sightings_of
from mem3r_check.colours import check_colours
from mem3r_check.depth import check_depth
from mem3r_check.nerfstudio_readers import read_nerfstudio_colmap, read_nerfstudio_data
from mem3r_check.reading import NotChecked, Reading, Sightings, Unreadable
from mem3r_check.transforms_file import read_transforms
from mem3r_check.verdict import NO_EVIDENCE, Verdict
from mem3r_nerfstudio.export import TRANSFORMS
from mem3r_plugin.errors import SourceError
from mem3r_plugin.progress import ProgressCallback, no_progress

CHECKS = ("pictures", "tracks", "cameras", "seeds", "depth", "colours")
"""What is checked of every reading, in this order."""

_COLOURS_OF = ("pycolmap", TRANSFORMS)
"""Readers whose pictures are looked at; the others open the same files."""


@dataclass(frozen=True)
class ReaderReport:
    """What one program makes of a project."""

    reader: str
    """The program, or part of one."""
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    """By name of the check; empty where the program could not read the project."""
    unreadable: str | None = None
    """Why it could not."""
    not_checked: str | None = None
    """Why the program was not asked."""
    notes: tuple[str, ...] = ()
    """Limits of the program that the project runs into."""

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong, one sentence each."""
        if self.unreadable is not None:
            return (self.unreadable,)
        return tuple(v.problem for v in self.verdicts.values() if v.problem is not None)


@dataclass(frozen=True)
class CheckReport:
    """What all programs make of a project."""

    project: Path
    """Its folder."""
    readers: tuple[ReaderReport, ...]
    """One for each program."""

    @property
    def passed(self) -> bool:
        """Whether every program that was asked sees the same, and the evidence agrees."""
        return not any(reader.problems for reader in self.readers)

    @property
    def problems(self) -> tuple[str, ...]:
        """`reader: what is wrong`, for each."""
        return tuple(f"{r.reader}: {problem}" for r in self.readers for problem in r.problems)


def check_project(project: Path, progress: ProgressCallback = no_progress) -> CheckReport:
    """Read a COLMAP, 3DGS or nerfstudio project as every program that could, and compare.

    Raises:
        SourceError: there is no project in the folder.
    """
    project = Path(project).resolve()
    readers = _readers(project)
    sightings = _sightings(project)
    reference: Reading | None = None
    reports = []
    for done, (name, read) in enumerate(readers.items()):
        progress("reading the project", done, len(readers))
        try:
            reading = _usable(read(project))
        except NotChecked as missing:
            reports.append(ReaderReport(name, not_checked=str(missing)))
        except Unreadable as reason:
            reports.append(ReaderReport(name, unreadable=str(reason)))
        else:
            reports.append(_examine(reading, reference, sightings))
            reference = reference or reading
    return CheckReport(project, tuple(reports))


def _readers(project: Path) -> dict[str, Callable[[Path], Reading]]:
    """The programs that could read the project."""
    readers: dict[str, Callable[[Path], Reading]] = {}
    folder = model_folder(project)
    if folder is not None:
        readers["pycolmap"] = COLMAP_READERS["pycolmap"]
        if folder == project / "sparse/0":  # where the others look for it
            readers |= COLMAP_READERS
        readers["nerfstudio colmap"] = read_nerfstudio_colmap
    if (project / TRANSFORMS).is_file():
        readers[TRANSFORMS] = read_transforms
        readers["nerfstudio-data"] = read_nerfstudio_data
    if not readers:
        raise SourceError(f"{project} holds no project: neither a COLMAP model nor a {TRANSFORMS}")
    return readers


def _sightings(project: Path) -> Sightings | None:
    """The tracks of the COLMAP model; None without a readable one, which its readers then tell."""
    folder = model_folder(project)
    if folder is None:
        return None
    try:
        return sightings_of(read_colmap_files(folder))
    except Unreadable:
        return None


def _usable(reading: Reading) -> Reading:
    """The same reading.

    Raises:
        Unreadable: it is empty, or holds numbers that are none.
    """
    if not reading.views:
        raise Unreadable("there is no picture in it")
    for name, view in reading.views.items():
        camera = (view.camera.fx, view.camera.fy, view.camera.cx, view.camera.cy)
        if not np.isfinite(view.camera_to_world).all() or not np.isfinite(camera).all():
            raise Unreadable(f"the camera of {name} is not finite")
    if not np.isfinite(reading.points).all():
        raise Unreadable("a point is not finite")
    return reading


def _examine(
    reading: Reading, reference: Reading | None, sightings: Sightings | None
) -> ReaderReport:
    verdicts = dict.fromkeys(CHECKS, NO_EVIDENCE)
    verdicts["pictures"] = check_pictures(reading)
    verdicts["tracks"] = check_sightings(reading, sightings)
    verdicts["seeds"] = check_seeds(reading, sightings)
    if verdicts["tracks"].problem is verdicts["seeds"].problem is None:  # else the rest repeats it
        verdicts["cameras"] = check_agreement(reading, reference) if reference else Verdict("first")
        verdicts["depth"] = check_depth(reading, sightings)
        if verdicts["pictures"].problem is None and reading.reader in _COLOURS_OF:
            verdicts["colours"] = check_colours(reading, sightings)
    return ReaderReport(reading.reader, verdicts, notes=reading.notes)
