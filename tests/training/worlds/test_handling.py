import numpy as np
import pytest

from mem3r_plugin.errors import ConfigError
from mem3r_plugin.training.worlds.handling import Handling, Track, hesitant, look_aside, shaken


def straight(frames: int, speed: float) -> Track:
    """A level walk along +x."""
    position = np.zeros((frames, 3))
    position[:, 0] = speed * np.arange(frames)
    return Track(position, *np.zeros((3, frames)))


def test_a_still_hand_trembles_by_millimetres_and_tenths_of_degrees():
    still = shaken(straight(4000, 0.0), np.random.default_rng(0), 1.0)
    np.testing.assert_allclose(still.position.std(axis=0), 0.006, rtol=0.35)
    for angle in (still.yaw, still.pitch, still.roll):
        assert 0.2 < np.degrees(angle.std()) < 0.8
        assert 0.02 < np.degrees(np.abs(np.diff(angle)).mean()) < 0.4


def test_the_power_of_tremor_falls_with_the_square_of_the_frequency():
    tracks = [shaken(straight(4000, 0.0), np.random.default_rng(seed), 1.0) for seed in range(20)]
    power = np.mean([np.abs(np.fft.rfft(track.yaw)) ** 2 for track in tracks], axis=0)
    frequency = np.fft.rfftfreq(4000)
    low, high = ((frequency > f) & (frequency < 2 * f) for f in (0.025, 0.2))
    slope = np.log(power[low].mean() / power[high].mean()) / np.log(8)
    assert 1.5 < slope < 2.5


def test_walkers_nod_at_every_step():
    walked = shaken(straight(2000, 0.07), np.random.default_rng(1), 1.0)
    power = np.abs(np.fft.rfft(walked.pitch)) ** 2
    frequency = np.fft.rfftfreq(2000)
    cadence = frequency[np.argmax(power * (frequency > 0.05))]
    assert cadence == pytest.approx(0.07 / 0.7, rel=0.05)


def test_shake_depends_on_time_alone():
    long, short = (
        shaken(straight(frames, 0.0), np.random.default_rng(3), 1.0) for frames in (90, 40)
    )
    np.testing.assert_allclose(long.yaw[:40], short.yaw)
    np.testing.assert_allclose(long.position[:40], short.position)


@pytest.mark.parametrize("seed", range(5))
def test_those_who_hesitate_stop_and_stay_on_their_way(seed):
    track = hesitant(straight(600, 0.05), np.random.default_rng(seed))
    steps = np.diff(track.position[:, 0])
    assert track.position[:, 0].min() >= 0
    assert track.position[:, 0].max() <= 0.05 * 599
    assert np.abs(steps).max() < 0.0501
    assert (np.abs(steps) < 1e-6).any()
    assert np.abs(np.diff(track.yaw)).max() < 0.06


def test_some_go_back_and_some_look_around():
    tracks = [hesitant(straight(600, 0.05), np.random.default_rng(seed)) for seed in range(8)]
    assert sum(np.diff(track.position[:, 0]).min() < -0.01 for track in tracks) >= 3
    assert sum(np.ptp(track.yaw) > 0.3 for track in tracks) >= 5


def test_looks_aside_are_not_ahead():
    angles = [look_aside(np.random.default_rng(seed)) for seed in range(50)]
    assert np.abs(angles).min() > 0.9
    assert min(angles) < 0 < max(angles)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"shake": -0.1}, "shake = -0.1: must not be below 0"),
        ({"hesitation": 1.5}, "hesitation = 1.5: must lie between 0 and 1"),
        ({"closeups": 0.6, "photos": 0.6}, "must not be more than 1"),
    ],
)
def test_impossible_values_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        Handling(**values)
