"""The benchmark measures what it says it does."""

import json
import math

import numpy as np
import pytest
import torch

from mem3r_plugin.bench import BenchConfig, bench, peaks
from mem3r_plugin.bench.bench import frames_per_second, operations_per_frame
from mem3r_plugin.commands.main import main
from mem3r_plugin.configuration import load_preset
from mem3r_plugin.errors import ConfigError, SourceError
from mem3r_plugin.machine import describe_machine
from mem3r_plugin.model import NetworkConfig
from tests.model.networks import CUT3R, MEM3R
from tests.stream.pictures import write_video

STAGES = {"decode", "preprocess", "encode", "recur", "heads", "transfer", "camera", "sinks"}
BEFORE_SINKS = ("encode", "recur", "heads", "transfer", "camera")


@pytest.fixture(autouse=True)
def small_peaks(monkeypatch):
    """Peaks of small matrices, since the real ones take seconds each."""
    monkeypatch.setattr(peaks, "MATRIX", 256)
    monkeypatch.setattr(peaks, "LAYER", 128)
    monkeypatch.setattr(peaks, "ATTENTION", (2, 64, 16))


def preset(name: str) -> NetworkConfig:
    return load_preset("model", name, NetworkConfig())


def test_a_run(monkeypatch):
    monkeypatch.setitem(bench.__globals__, "MEMORY_AT", (10, 20, 1000))
    config = BenchConfig(size="64x48", frames=48)
    result = bench(config)
    assert result["settings"] == {
        "model": "mem3r-tiny",
        "weights": "mem3r-tiny",
        "size": "64x48",
        "update": "ttt3r",
        "precision": result["settings"]["precision"],
        "frames": 48,
        "source": None,
        "device": None,
    }
    precision = result["settings"]["precision"]
    assert precision in ("float32", "bfloat16")
    assert result["machine"] == describe_machine()
    assert result["frames"] == 48

    speed = result["frames_per_second"]
    assert 0 < speed["lower"] <= speed["median"] <= speed["upper"]
    assert result["stages_ms"].keys() == STAGES
    assert result["replayed_share"] == 0
    assert all(milliseconds > 0 for milliseconds in result["stages_ms"].values())
    # These come one after the other; between them may lie waiting for sinks.
    covered = sum(result["stages_ms"][name] for name in BEFORE_SINKS) * speed["whole"] / 1000
    assert 0 < covered < 1.3

    formats = ("float32", "bfloat16")
    assert set(result["peak"]) == {f"{w}_{f}" for w in ("matmul", "attention") for f in formats}
    assert all(rate > 0 for rate in result["peak"].values())
    assert result["plain_matmul_float32"] > 0
    operations = operations_per_frame(preset("mem3r-tiny"), (64, 48))
    assert result["operations_per_frame"] == operations.total
    assert result["attention_operations_per_frame"] == operations.attention
    matmul, attention = (result["peak"][f"{name}_{precision}"] for name in ("matmul", "attention"))
    seconds = operations.total / matmul
    assert result["share_of_matmul_peak"] == pytest.approx(seconds * speed["median"])
    seconds += operations.attention * (1 / attention - 1 / matmul)
    both = result["share_of_matmul_and_attention_peak"]
    assert both == pytest.approx(seconds * speed["median"])

    assert [memory["frames"] for memory in result["memory"]] == [10, 20, 48]
    most = [memory["host_mb"] for memory in result["memory"]]
    assert 50 < most[0] <= most[1] <= most[2] < 1e5


def test_one_frame_is_enough():
    result = bench(BenchConfig(size="64x48", frames=1, precision="float32"))
    assert result["frames"] == 1
    assert result["settings"]["precision"] == "float32"
    assert [memory["frames"] for memory in result["memory"]] == [1]


def test_random_weights_where_none_are_bundled(small_model):
    result = bench(BenchConfig(model=small_model.preset, size="48x64", frames=2))
    assert result["settings"]["weights"] == "random"


def test_a_video_as_source(tmp_path):
    video = write_video(tmp_path / "walk.mp4", frames=40)
    result = bench(BenchConfig(size="64x48", frames=6, source=str(video)))
    assert result["frames"] == 6
    assert result["stages_ms"]["decode"] > 0
    assert result["settings"]["source"] == str(video)


def test_a_video_that_ends_early(tmp_path):
    video = write_video(tmp_path / "walk.mp4", frames=36)
    assert bench(BenchConfig(size="64x48", frames=30, source=str(video)))["frames"] == 4
    short = write_video(tmp_path / "short.mp4", frames=32)
    options = BenchConfig(size="64x48", frames=30, source=str(short))
    with pytest.raises(SourceError, match="has 32 usable frames: more than 32 are needed"):
        bench(options)


# -- the parts -----------------------------------------------------------------------------------


def linear(tokens: int, inputs: int, outputs: int) -> int:
    return 2 * tokens * inputs * outputs


def attention(queries: int, keys: int, width: int) -> int:
    return 2 * linear(queries, width, keys)


def mlp(tokens: int, width: int) -> int:
    return 2 * linear(tokens, width, 4 * width)


def encoder_operations(config: NetworkConfig, tokens: int) -> int:
    width = config.encoder.width
    block = linear(tokens, width, 4 * width) + attention(tokens, tokens, width) + mlp(tokens, width)
    return linear(tokens, 3 * 16 * 16, width) + config.encoder.depth * block


def decoder_operations(config: NetworkConfig, tokens: int) -> int:
    width, states, patches = config.decoder.width, config.decoder.state_tokens, tokens
    image = patches + 1  # and the pose token
    layer = 0
    for own, other in ((states, image), (image, states)):
        layer += linear(own, width, 4 * width) + attention(own, own, width)
        layer += linear(own, width, 2 * width) + linear(other, width, 2 * width)
        layer += attention(own, other, width) + mlp(own, width)
    return linear(patches, config.encoder.width, width) + config.decoder.depth * layer


def gate_operations(config: NetworkConfig) -> int:
    if config.gate.kind == "none":
        return 0
    width, hidden = config.decoder.width, config.gate.hidden
    inputs = width + config.encoder.width
    return linear(config.decoder.state_tokens, inputs + width, hidden)


def depth_head_operations(config: NetworkConfig, tokens: int) -> int:
    one, two, three, four = config.dpt.levels
    outer, width, features = config.encoder.width, config.decoder.width, config.dpt.features
    total = linear(tokens, outer, one) + linear(tokens, width, two + three + four)
    total += linear(tokens, 16 * one, one) + linear(tokens, 4 * two, two)
    total += linear(tokens // 4, 9 * four, four)
    for pixels, level in ((16, one), (4, two), (1, three), (1 / 4, four)):
        units = 1 if pixels < 1 else 2  # the coarsest level has nothing to merge
        at = round(pixels * tokens)
        total += linear(at, 9 * level, features) + 2 * units * linear(at, 9 * features, features)
        total += linear(4 * at, features, features)
    total += linear(64 * tokens, 9 * features, features // 2)
    total += linear(256 * tokens, 9 * features // 2, config.dpt.output_features)
    return total + linear(256 * tokens, config.dpt.output_features, 4)


@pytest.mark.parametrize("config", [MEM3R, CUT3R, preset("mem3r-tiny")], ids=lambda c: c.name)
def test_operations_are_those_of_matrix_products_and_attention(config):
    size = (256, 192)
    tokens = math.prod(size) // 256
    counted = (
        encoder_operations(config, tokens)
        + decoder_operations(config, tokens)
        + gate_operations(config)
        + depth_head_operations(config, tokens)
    )
    assert operations_per_frame(config, size).total == pytest.approx(counted, rel=0.02)


@pytest.mark.parametrize("config", [CUT3R, preset("mem3r-tiny")], ids=lambda c: c.name)
def test_operations_of_attention_are_those_of_its_tokens(config):
    tokens, state = 16 * 12, config.decoder.state_tokens
    encoder = config.encoder.depth * 4 * tokens**2 * config.encoder.width
    pairs = (tokens + 1 + state) ** 2  # both decoders look at themselves and at each other
    decoders = config.decoder.depth * 4 * pairs * config.decoder.width
    counted = operations_per_frame(config, (256, 192)).attention
    assert counted == pytest.approx(encoder + decoders, rel=0.01)


def test_the_speed_of_even_frames():
    speed = frames_per_second(np.arange(101) / 25)
    assert speed == pytest.approx({"median": 25, "lower": 25, "upper": 25, "whole": 25})


def test_the_speed_of_a_run_that_slows_down():
    times = np.cumsum([0] + [0.1] * 10 + [0.2] * 10)
    speed = frames_per_second(times)
    assert speed == pytest.approx({"median": 7.5, "lower": 5, "upper": 10, "whole": 20 / 3})


def test_the_speed_of_few_frames():
    speed = frames_per_second(np.array([1.0, 1.5]))
    assert speed == pytest.approx({"median": 2, "lower": 2, "upper": 2, "whole": 2})


def test_peaks_are_of_the_work_they_name(monkeypatch):
    monkeypatch.setattr(peaks, "_fastest", lambda work, device: work() is not None and 2.0)
    cpu = torch.device("cpu")
    assert peaks.matmul_peak(cpu, torch.float32) == 256**3
    assert peaks.plain_matmul_peak(cpu, torch.float32) == 256**3
    assert peaks.attention_peak(cpu, torch.bfloat16) == 2 * 2 * 64**2 * 16


# -- the command ---------------------------------------------------------------------------------


def test_json_is_one_object(capsys):
    assert main(["bench", "--size", "64x48", "--frames", "2", "--json"]) == 0
    printed = capsys.readouterr().out
    result = json.loads(printed)
    assert result["frames"] == 2
    assert set(result) == {
        "settings", "machine", "frames", "frames_per_second", "stages_ms", "replayed_share",
        "operations_per_frame", "attention_operations_per_frame", "peak", "share_of_matmul_peak",
        "share_of_matmul_and_attention_peak", "plain_matmul_float32", "memory",
    }  # fmt: skip


def test_the_table_names_what_was_measured(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    assert main(["bench", "--size", "64x48", "--frames", "2", "--precision", "float32"]) == 0
    printed = capsys.readouterr().out
    assert "mem3r-tiny 64x48 ttt3r float32" in printed
    for line in ("frames a second, median", "sinks, ms a frame", "peak of matmul, bfloat16"):
        assert line in printed
    assert "most memory of the host until frame 2" in printed


@pytest.mark.parametrize("size", ["512", "512x380", "0x48", "-64x48", "64x48x3", "wide", "64 x 48"])
def test_wrong_sizes_are_one_line(size, capsys):
    assert main(["bench", f"--size={size}"]) == 1
    assert capsys.readouterr().err == (
        f"mem3r: error: size is {size!r}: give width and height as multiples of 16, like 512x384\n"
    )


def test_no_frames_to_measure():
    with pytest.raises(ConfigError, match="frames is 0, it must be at least 1"):
        BenchConfig(frames=0)
