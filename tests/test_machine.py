"""What a measurement was made with."""

import json
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from mem3r_plugin import machine
from mem3r_plugin.machine import describe_machine


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """A repository with the module's file two levels deep."""
    file = tmp_path / "mem3r_plugin" / "machine.py"
    file.parent.mkdir()
    file.write_text("")
    monkeypatch.setattr(machine, "__file__", str(file))
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "begin")
    return tmp_path


def test_it_says_what_a_number_depends_on():
    described = describe_machine()
    assert list(described) == ["processor", "gpu", "threads", "torch", "mem3r-plugin", "commit"]
    assert described["processor"]
    assert described["threads"] == torch.get_num_threads()
    assert described["torch"] == torch.__version__
    assert described["mem3r-plugin"] == version("mem3r-plugin")
    assert (described["gpu"] is None) == (not torch.cuda.is_available())
    assert json.loads(json.dumps(described)) == described


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"cpu_name": "Old", "amx_bf16": False}, "Old"),
        ({"cpu_name": "New", "avx512_bf16": True}, "New (avx512_bf16)"),
        ({"cpu_name": "X", "amx_bf16": True, "avx512_bf16": True}, "X (amx_bf16, avx512_bf16)"),
    ],
)
def test_the_processor_comes_with_its_matrix_units(capabilities, expected, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert describe_machine()["processor"] == expected


def test_older_torch_does_not_tell_the_processor(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert describe_machine()["processor"]


def test_the_commit_of_a_checkout(checkout):
    clean = describe_machine()["commit"]
    head = subprocess.run(
        ["git", "-C", str(checkout), "rev-parse", "HEAD"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert len(clean) >= 7
    assert head.startswith(clean)
    (checkout / "mem3r_plugin" / "machine.py").write_text("changed")
    assert describe_machine()["commit"] == f"{clean}-dirty"


def test_no_commit_where_there_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "__file__", str(tmp_path / "mem3r_plugin" / "machine.py"))
    assert describe_machine()["commit"] is None
    (tmp_path / ".git").write_text("gitdir: nowhere\n")
    assert describe_machine()["commit"] is None


def test_no_commit_without_git(checkout, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert describe_machine()["commit"] is None
