"""The promises of the project as a whole: light imports, documented modules, complete packages."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import resources
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

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


def distribution(requirement: str) -> str:
    """The normalised name in a requirement such as `huggingface_hub>=0.24`."""
    return re.split(r"[\[<>=!~;\s]", requirement)[0].lower().replace("_", "-")


def test_constraints_pin_every_direct_dependency(repository):
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    wanted = {distribution(requirement) for requirement in project["dependencies"]}
    for extra in project["optional-dependencies"].values():
        wanted |= {distribution(requirement) for requirement in extra}
    files = ("constraints.txt", "constraints-nerfstudio.txt")
    lines = [line for name in files for line in (repository / name).read_text().splitlines()]
    pinned = {distribution(line) for line in lines if "==" in line}
    assert wanted - {"mem3r-plugin"} <= pinned


def top_level_imports(file: Path) -> set[str]:
    """Packages that a module imports as soon as it is imported itself."""
    names: set[str] = set()
    for statement in ast.parse(file.read_text()).body:
        if isinstance(statement, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in statement.names}
        elif isinstance(statement, ast.ImportFrom) and statement.module:
            names.add(statement.module.partition(".")[0])
    return names - sys.stdlib_module_names


def test_what_modules_import_is_what_the_core_depends_on(repository):
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    core = {distribution(requirement) for requirement in project["dependencies"]}
    owners = packages_distributions()
    ours = {"mem3r_plugin", *(path.name for path in (repository / "integrations").iterdir())}
    missing = {
        f"{file.relative_to(repository)} imports {name}"
        for file in (repository / "mem3r_plugin").rglob("*.py")
        for name in top_level_imports(file) - ours
        if not core & {distribution(owner) for owner in owners.get(name, [])}
    }
    assert missing == set()


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
