import pytest

from mem3r_plugin.commands.main import main
from mem3r_plugin.configuration import load_preset
from mem3r_plugin.model import NetworkConfig
from mem3r_plugin.model.checkpoint import write_checkpoint
from mem3r_plugin.model.weights import load_network, random_network


@pytest.fixture(scope="module")
def cut3r_tiny(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "cut3r.safetensors"
    write_checkpoint(random_network(load_preset("model", "cut3r-tiny", NetworkConfig())), path)
    return path


def test_a_cut3r_becomes_the_start_of_a_mem3r(cut3r_tiny, tmp_path, capsys):
    output = tmp_path / "start.safetensors"
    assert main(["convert", str(cut3r_tiny), str(output), "--to", "mem3r-tiny"]) == 0
    network = load_network("mem3r-tiny", str(output))
    count = sum(parameter.numel() for parameter in network.parameters())
    assert capsys.readouterr().out == f"{output}: mem3r-tiny, {count:,} parameters\n"


def test_a_missing_checkpoint_is_one_line(tmp_path, capsys):
    gone = tmp_path / "gone.pth"
    assert main(["convert", str(gone), str(tmp_path / "out.safetensors")]) == 1
    assert capsys.readouterr().err == f"mem3r: error: weights file {gone} does not exist\n"


def test_a_checkpoint_of_another_size_is_one_line_and_leaves_no_file(cut3r_tiny, tmp_path, capsys):
    output = tmp_path / "out.safetensors"
    assert main(["convert", str(cut3r_tiny), str(output), "--to", "cut3r"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"mem3r: error: {cut3r_tiny} does not fit a 'cut3r' network")
    assert error.count("\n") == 1
    assert not output.exists()
