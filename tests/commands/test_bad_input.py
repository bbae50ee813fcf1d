"""Every bad input: one clear line, a status other than 0, and nothing written is lost."""

import resource
import subprocess

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mem3r_plugin.commands.main import main
from mem3r_plugin.scan import Scan
from tests.commands.terminal import complaint, mem3r
from tests.stream.pictures import picture, write_pictures, write_video


@pytest.fixture
def images(tmp_path):
    return write_pictures(tmp_path / "pictures", [f"{index}.png" for index in range(6)], 64, 48)


@pytest.fixture
def words(small_model, tmp_path):
    """Options for a small network and a scan in `tmp_path / "scan"`."""
    model = ["--model", small_model.preset, "--weights", small_model.weights]
    return [*model, "--output", str(tmp_path / "scan")]


@pytest.fixture
def spawn(words):
    """Runs `mem3r run SOURCE` in a process of its own."""
    return lambda source, *more, **options: mem3r("run", source, *words, *more, **options)


@pytest.fixture
def run(words, capfd):
    """The same in this process, which saves the time to load torch."""

    def run(source, *more):
        status = main(["run", str(source), *words, *map(str, more)])
        return subprocess.CompletedProcess(["mem3r"], status, *capfd.readouterr())

    return run


def test_a_missing_source(spawn, tmp_path):
    assert f"{tmp_path / 'gone.mp4'} does not exist" in complaint(spawn(tmp_path / "gone.mp4"))
    assert not (tmp_path / "scan").exists()


def test_an_empty_folder(run, tmp_path):
    (tmp_path / "empty").mkdir()
    assert str(tmp_path / "empty") in complaint(run(tmp_path / "empty"))


def test_a_file_that_is_no_video(run, tmp_path):
    path = tmp_path / "notes.mp4"
    path.write_text("no video")
    assert str(path) in complaint(run(path))


def test_single_bad_frames_are_named_and_left_out(spawn, images, tmp_path):
    whole = (images / "1.png").read_bytes()
    (images / "1.png").write_bytes(whole[: len(whole) // 2])
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(images / "2.png")
    Image.fromarray(picture(80, 48)).save(images / "3.png")
    done = spawn(images)
    assert done.returncode == 0, done.stderr
    told = done.stderr.splitlines()
    assert [line.split(":")[0] for line in told] == [f"skipped {index}.png" for index in (1, 2, 3)]
    assert [frame.name for frame in Scan.open(tmp_path / "scan").frames] == [
        "0.png",
        "4.png",
        "5.png",
    ]


def test_a_video_of_one_frame_is_a_scan_of_one_frame(run, tmp_path):
    done = run(write_video(tmp_path / "still.mp4", frames=1))
    assert done.returncode == 0, done.stderr
    assert len(Scan.open(tmp_path / "scan")) == 1


def test_a_network_that_overflows_stops_after_a_few_frames(spawn, small_model, tmp_path):
    """Weights that are finite but so large that every answer is infinite."""
    tensors = load_file(small_model.weights)
    name = next(name for name in tensors if name.startswith("heads.") and name.endswith("weight"))
    tensors[name] = torch.full_like(tensors[name], 3e38)
    metadata = {"format": "mem3r-plugin weights 1", "config": _config_of(small_model.weights)}
    save_file(tensors, tmp_path / "huge.safetensors", metadata)
    source = write_pictures(tmp_path / "many", [f"{index:02d}.png" for index in range(12)], 64, 48)
    done = spawn(source, "--weights", tmp_path / "huge.safetensors")
    assert done.returncode == 1
    *skipped, last = done.stderr.splitlines()
    assert all(line.startswith("skipped ") for line in skipped)
    assert last.startswith("mem3r: error: the network gave no finite answer")


def test_weights_with_nan_are_refused(run, images, small_model, tmp_path):
    tensors = load_file(small_model.weights)
    name = next(iter(tensors))
    tensors[name].view(-1)[0] = float("nan")
    metadata = {"format": "mem3r-plugin weights 1", "config": _config_of(small_model.weights)}
    path = tmp_path / "nan.safetensors"
    save_file(tensors, path, metadata)
    assert f"{path}: {name} is not finite" in complaint(run(images, "--weights", path))


def _config_of(weights: str) -> str:
    with safe_open(weights, framework="pt") as file:
        return file.metadata()["config"]


def test_a_full_disk_keeps_the_frames_that_fitted(run, spawn, tmp_path):
    """Stands for a full disk: no file may grow beyond a limit, which the record of frames meets."""
    source = write_pictures(tmp_path / "many", [f"{index:02d}.png" for index in range(40)], 64, 48)
    assert run(source).returncode == 0
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "scan").rglob("*.*")}
    limit = sizes.pop("frames.jsonl") * 3 // 4
    assert limit > max(sizes.values())
    (tmp_path / "scan").rename(tmp_path / "whole")

    def limit_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    rarely = ["--checkpoint-every", "100"]  # a checkpoint is larger than the limit
    message = complaint(spawn(source, *rarely, preexec_fn=limit_files))
    assert str(tmp_path / "scan") in message
    assert 20 < len(Scan.open(tmp_path / "scan")) < 40
    assert run(source, *rarely, "--resume").returncode == 0
    assert len(Scan.open(tmp_path / "scan")) == 40


def test_a_checkpoint_of_another_shape(run, images, small_model):
    message = complaint(run(images, "--model", "mem3r-tiny"))
    assert small_model.weights in message
    assert "does not fit a 'mem3r-tiny' network" in message


def test_weights_that_are_a_script(spawn, images, tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(b"cos\nsystem\n(S'touch owned'\ntR.")
    assert str(path) in complaint(spawn(images, "--weights", path, cwd=tmp_path))
    assert not (tmp_path / "owned").exists()


def test_an_unknown_update_rule(run, images):
    message = complaint(run(images, "--update", "forget"))
    assert (
        message
        == "unknown update rule 'forget'; installed are: filt3r, memix, plain, ttsa3r, ttt3r"
    )


def test_an_unknown_preset(run, images):
    assert "no stream preset is called 'turbo'" in complaint(run(images, "--config", "turbo"))


def test_a_wrong_key_in_a_preset(run, images, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("strid: 2\n")
    message = complaint(run(images, "--config", path))
    assert message == f"{path}: strid: unknown key; did you mean stride?"


def test_a_scan_in_the_way_is_not_overwritten(run, images, tmp_path):
    assert run(images).returncode == 0
    before = (tmp_path / "scan" / "frames.jsonl").read_bytes()
    assert "already holds a scan" in complaint(run(images))
    assert (tmp_path / "scan" / "frames.jsonl").read_bytes() == before
