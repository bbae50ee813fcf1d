from __future__ import annotations

import sys
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem3r_plugin.errors import ConfigError
from mem3r_plugin.evaluation import evo_trajectory_errors, trajectory_errors
from mem3r_plugin.geometry.pose import pose_matrix, rotation_from_quaternion


def random_path(seed: int, frames: int = 9) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return pose_matrix(
        rotation_from_quaternion(rng.normal(size=(frames, 4))), rng.normal(size=(frames, 3))
    )


@given(st.integers(0, 2**32 - 1))
def test_evo_and_our_own_errors_agree(seed: int) -> None:
    true, estimated = random_path(seed), random_path(seed + 1)
    ours = asdict(trajectory_errors(estimated, true))
    assert asdict(evo_trajectory_errors(estimated, true)) == pytest.approx(ours, rel=1e-6)


def test_paths_that_leave_the_alignment_open() -> None:
    true = random_path(0, 5)
    still = np.broadcast_to(np.eye(4), (5, 4, 4))
    straight = true.copy()
    straight[:, :3, 3] = np.outer(np.arange(5), [1, 2, 3])
    for estimated in (still, straight):
        ours = asdict(trajectory_errors(estimated, true))
        assert asdict(evo_trajectory_errors(estimated, true)) == pytest.approx(ours)


def test_without_evo_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [module for module in sys.modules if module.split(".")[0] == "evo"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "evo", None)
    with pytest.raises(ConfigError, match=r"mem3r-plugin\[evaluate\]"):
        evo_trajectory_errors(random_path(0), random_path(1))
