"""The promises of the project as a whole: light imports, documented modules, complete packages."""

import ast
import shutil
import subprocess
import sys
import zipfile
from importlib import resources

import pytest
import tomllib

PACKAGES = ("mem3r_plugin", "integrations")


def modules_after(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after `statement`."""
    code = f"import sys; {statement}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_heavy():
    loaded = modules_after("import mem3r_plugin")
    assert not loaded & {"torch", "numpy", "cv2", "pycolmap", "matplotlib", "nerfstudio", "open3d"}


@pytest.mark.parametrize(
    "statement", ["from mem3r_plugin import *", "import mem3r_plugin.commands.run"]
)
def test_running_the_front_end_needs_no_host(statement):
    loaded = modules_after(statement)
    assert "torch" in loaded
    assert not loaded & {"pycolmap", "matplotlib", "nerfstudio", "open3d", "gsplat", "accelerate"}


def test_every_module_says_what_it_is_for(repository):
    files = [file for package in PACKAGES for file in (repository / package).rglob("*.py")]
    assert len(files) > 20
    silent = [
        str(file.relative_to(repository))
        for file in files
        if not ast.get_docstring(ast.parse(file.read_text()))
    ]
    assert silent == []


def test_presets_are_found_where_the_package_is_installed():
    stream = resources.files("mem3r_plugin.configs") / "stream"
    assert "long.yaml" in {file.name for file in stream.iterdir()}


def test_constraints_pin_every_direct_dependency(repository):
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        wanted += extra
    pins = {
        line.partition("==")[0].lower().replace("_", "-")
        for line in (repository / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    names = {name.partition(">=")[0].partition("[")[0].lower().replace("_", "-") for name in wanted}
    assert names - {"mem3r-plugin"} <= pins


def test_a_wheel_holds_presets_integrations_and_licence(repository, tmp_path):
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(repository / name, checkout)
    for name in ("mem3r_plugin", "integrations", "configs"):
        shutil.copytree(repository / name, checkout / name)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, str(checkout), "-w", str(tmp_path)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for wanted in (
        "mem3r_plugin/py.typed",
        "mem3r_plugin/configs/model/mem3r.yaml",
        "mem3r_plugin/configs/stream/long.yaml",
        "mem3r_colmap/__init__.py",
    ):
        assert wanted in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not any(name.startswith(("tests/", "configs/", "integrations/")) for name in names)
