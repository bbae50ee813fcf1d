from pathlib import Path

import pytest
import torch

from mem3r_plugin.errors import ScanError
from mem3r_plugin.refine.depth.keyframe_maps import KeyframeMaps


def test_maps_come_back_exactly_and_survive_a_restart(tmp_path: Path) -> None:
    maps = KeyframeMaps(tmp_path / "depth")
    stored = {index: torch.rand(5, 7, generator=torch.manual_seed(index)) for index in range(40)}
    for index, values in stored.items():
        maps[index] = values
    for reader in (maps, KeyframeMaps(tmp_path / "depth")):
        assert 40 not in reader
        for index, values in stored.items():
            assert index in reader
            assert torch.equal(reader[index], values)


def test_few_maps_are_kept_in_memory(tmp_path: Path) -> None:
    maps = KeyframeMaps(tmp_path)
    for index in range(200):
        maps[index] = torch.zeros(2, 2)
    assert len(maps._recent) < 50


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01\x00v\x00{'descr'", b"no map"])
def test_a_damaged_map_is_named(tmp_path: Path, content: bytes) -> None:
    maps = KeyframeMaps(tmp_path)
    (tmp_path / "000003.npy").write_bytes(content)
    with pytest.raises(ScanError, match=r"000003\.npy is damaged"):
        maps[3]
