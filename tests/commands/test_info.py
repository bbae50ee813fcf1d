import json

import pytest

from mem3r_plugin.commands.main import main


def info(capsys, *arguments: str) -> dict:
    assert main(["info", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_cut3r_has_the_size_of_the_public_checkpoint(capsys):
    report = info(capsys, "--model", "cut3r")
    assert report["model"] == "cut3r"
    assert report["parameters"] == 793_307_858
    assert sum(report["parts"].values()) == report["parameters"]


def test_mem3r_has_the_size_of_the_paper(capsys):
    assert info(capsys, "--model", "mem3r")["parameters"] == pytest.approx(643.5e6, abs=0.1e6)


def test_the_table_ends_with_the_total(capsys):
    total = info(capsys, "--model", "mem3r-tiny")["parameters"]
    assert main(["info", "--model", "mem3r-tiny"]) == 0
    assert f"{total:,}" in capsys.readouterr().out


def test_a_file_of_ones_own_describes_a_model(tmp_path, capsys):
    path = tmp_path / "small.yaml"
    path.write_text("decoder: {state_tokens: 8}\n")
    assert info(capsys, "--model", str(path))["parameters"] < 643_560_578


def test_an_unknown_model_names_the_known_ones(capsys):
    assert main(["info", "--model", "huge"]) == 1
    assert capsys.readouterr().err == (
        "mem3r: error: no model preset is called 'huge'; "
        "there are cut3r, cut3r-tiny, mem3r, mem3r-tiny, mem3r-tiny-no-fast-weights, mem3r-tiny-no-gate\n"
    )
