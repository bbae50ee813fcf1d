"""Entry point of the `mem3r` command."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from mem3r_plugin.errors import Mem3RError

COMMANDS = {
    "run": "reconstruct a video, image folder or camera: poses and depth, frame by frame",
    "batch": "reconstruct every source of a list, here or on the machines of a Ray cluster",
    "import-rgbd": "make a scan of a posed RGB-D folder: TUM, 7-Scenes, Replica, ScanNet and others",
    "refine": "give a scan bundle-adjusted poses of all frames, one camera and consistent depth",
    "process": "do it all: video in, project for nerfstudio and COLMAP out",
    "fuse": "fuse the depth of a scan into a coloured mesh or points with normals (needs Open3D)",
    "view": "look at a scan or a mesh, in a window or as a picture (needs Open3D)",
    "export": "write a scan as a COLMAP or nerfstudio project, a trajectory or a point cloud",
    "check": "read an exported project as every program would, and compare what they see",
    "scale": "measure how long the unit of a scan is, and keep it for every export",
    "splat": "optimise Gaussian splats from a scan with gsplat (needs a CUDA GPU)",
    "evaluate": "measure a scan against known poses and depth",
    "bench": "measure how fast a network runs on this machine, and where the time goes",
    "info": "count the parameters of a network",
    "convert": "turn a CUT3R checkpoint into safetensors, or into a start for Mem3R",
    "train": "train or fine-tune a network",
    "textures": "fetch free photographs that make the training worlds more real",
    "things": "fetch free models of furniture, cars, trees and people for the training worlds",
    "demo": "go through the whole job on a rendered clip, or on a video of your own",
}
"""Subcommands, each a module of this package that is imported only when it is asked for."""

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand and return the exit status.

    A `Mem3RError` becomes one line on stderr and status 1; with MEM3R_DEBUG=1 in the environment it
    keeps its traceback.
    """
    # Threads that spin while they wait bring each other to a halt when other programs need the cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = sys.argv[1:] if arguments is None else arguments
    name = _top_level_parser().parse_args(arguments[:1]).command
    try:
        module = importlib.import_module(f"mem3r_plugin.commands.{name.replace('-', '_')}")
        module.parse(arguments[1:])()
    except Mem3RError as error:
        if os.environ.get("MEM3R_DEBUG") == "1":
            raise
        print(f"mem3r: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _top_level_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mem3r",
        description="Streaming 3-D reconstruction with Mem3R.",
        epilog="`mem3r COMMAND --help` lists the options of a command.",
    )
    parser.add_argument("--version", action="version", version=version("mem3r-plugin"))
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, purpose in COMMANDS.items():
        commands.add_parser(name, help=purpose, add_help=False)
    return parser


if __name__ == "__main__":
    sys.exit(main())
