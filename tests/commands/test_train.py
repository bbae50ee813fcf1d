import pytest

from mem3r_plugin.commands.main import main
from mem3r_plugin.commands.train import parse


def test_options(tmp_path):
    options = parse(["mine.yaml", "--output", str(tmp_path), "--minutes", "2.5"])
    assert (options.config, options.output, options.minutes) == ("mine.yaml", tmp_path, 2.5)


@pytest.fixture
def trained(monkeypatch):
    """The configurations that would have been trained."""
    configs = []

    def train(config, output, minutes):
        configs.append(config)
        return output

    monkeypatch.setattr("mem3r_plugin.commands.train.train", train)
    return configs


def test_options_win_over_the_file(tmp_path, trained):
    options = ["--model", "cut3r-tiny", "--start", "common.safetensors", "--seed", "7"]
    parse(["ablation", "--output", str(tmp_path), *options])()
    parse(["ablation", "--output", str(tmp_path)])()
    given, preset = trained
    assert (given.model, given.start, given.seed) == ("cut3r-tiny", "common.safetensors", 7)
    assert (preset.model, preset.start, preset.seed) == ("mem3r-tiny", "mem3r-tiny", 0)
    assert given.stages == preset.stages


@pytest.mark.parametrize("name", ["finetune_from_cut3r", "configs/finetune_from_cut3r.yaml"])
def test_fine_tuning_is_found_by_name_and_as_a_file(
    name, repository, tmp_path, monkeypatch, trained
):
    monkeypatch.chdir(repository)
    assert main(["train", name, "--output", str(tmp_path)]) == 0
    assert (trained[0].model, trained[0].checkpoint_activations) == ("mem3r", True)


def test_a_wrong_key_names_file_and_key(tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text("stages:\n  - {steps: 1, views: 2, sequences: 1}\n  - {step: 1}\n")
    assert main(["train", str(path), "--output", str(tmp_path / "run")]) == 1
    assert capsys.readouterr().err == (
        f"mem3r: error: {path}: stages.1.step: unknown key; did you mean steps?\n"
    )
    assert not (tmp_path / "run").exists()
