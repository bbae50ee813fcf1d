from mem3r_plugin.commands.main import main
from mem3r_plugin.commands.train import parse


def test_options(tmp_path):
    options = parse(["mine.yaml", "--output", str(tmp_path), "--minutes", "2.5"])
    assert (options.config, options.output, options.minutes) == ("mine.yaml", tmp_path, 2.5)


def test_a_wrong_key_names_file_and_key(tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text("stages:\n  - {steps: 1, views: 2, sequences: 1}\n  - {step: 1}\n")
    assert main(["train", str(path), "--output", str(tmp_path / "run")]) == 1
    assert capsys.readouterr().err == (
        f"mem3r: error: {path}: stages.1.step: unknown key; did you mean steps?\n"
    )
    assert not (tmp_path / "run").exists()
