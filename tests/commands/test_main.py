import re
import subprocess
import sys
from importlib.metadata import entry_points, version

import pytest

from mem3r_plugin.commands import main as main_module
from mem3r_plugin.commands.main import COMMANDS, main
from mem3r_plugin.errors import ScanError
from tests.commands.terminal import mem3r


def test_the_entry_point_is_this_function():
    (script,) = entry_points(group="console_scripts", name="mem3r")
    assert script.load() is main


def test_help_lists_every_command():
    done = mem3r("--help")
    assert done.returncode == 0
    for name in COMMANDS:
        assert re.search(rf"\n    {name}\s", done.stdout), name


def test_the_list_of_commands_does_not_wait_for_torch():
    code = "import sys, mem3r_plugin.commands.main; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_the_version_is_the_distributions():
    assert mem3r("--version").stdout.strip() == version("mem3r-plugin")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert f"usage: mem3r {name}" in capsys.readouterr().out


def test_an_unknown_command_is_refused():
    done = mem3r("fly")
    assert done.returncode == 2
    assert "invalid choice: 'fly'" in done.stderr


class Failing:
    """A command module whose command ends as it is told."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def parse(self, arguments):
        def command() -> None:
            raise self.error

        return command


def end_with(monkeypatch, error: BaseException) -> int:
    monkeypatch.setattr(main_module.importlib, "import_module", lambda name: Failing(error))
    return main(["run"])


def test_a_users_mistake_is_one_line_and_status_1(monkeypatch, capsys):
    assert end_with(monkeypatch, ScanError("walk: is no scan")) == 1
    output = capsys.readouterr()
    assert output.err == "mem3r: error: walk: is no scan\n"
    assert output.out == ""


def test_debug_keeps_the_traceback(monkeypatch):
    monkeypatch.setenv("MEM3R_DEBUG", "1")
    with pytest.raises(ScanError):
        end_with(monkeypatch, ScanError("walk: is no scan"))


def test_interruption_has_the_shells_status(monkeypatch):
    assert end_with(monkeypatch, KeyboardInterrupt()) == 130


def test_a_bug_is_not_hidden(monkeypatch):
    with pytest.raises(ZeroDivisionError):
        end_with(monkeypatch, ZeroDivisionError())
