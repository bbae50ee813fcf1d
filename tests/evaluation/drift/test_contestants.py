from pathlib import Path

import pytest
import torch

from mem3r_plugin.errors import ConfigError, WeightsError
from mem3r_plugin.evaluation.drift.contestants import Contestant, read_contestants, read_network
from mem3r_plugin.model.weights import random_network
from tests.model.networks import CUT3R
from tests.model.test_checkpoint import public_state_dict


def test_words_become_rows() -> None:
    words = [
        "ours=a.safetensors,b.safetensors:plain,ttt3r",
        "cut3r=c.safetensors",
        "x=owner/x:memix",
    ]
    assert read_contestants(words) == [
        Contestant("ours", ("a.safetensors", "b.safetensors"), "plain"),
        Contestant("ours+ttt3r", ("a.safetensors", "b.safetensors"), "ttt3r"),
        Contestant("cut3r", ("c.safetensors",), "plain"),
        Contestant("x+memix", ("owner/x",), "memix"),
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["weights.safetensors"], "write NAME=WEIGHTS"),
        (["name="], "write NAME=WEIGHTS"),
        (["name=a:magic"], "unknown update rule 'magic'"),
        (["name=a", "name=b"], "two contestants are called 'name'"),
        (["standing still=a"], "two contestants are called 'standing still'"),
    ],
)
def test_mistakes_are_named(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_contestants(words)


def test_weights_that_do_not_say_their_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut3r.pth"
    torch.save({"model": public_state_dict(random_network(CUT3R))}, path)
    with pytest.raises(WeightsError, match="mem3r convert"):
        read_network(str(path))
