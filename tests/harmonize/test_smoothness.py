"""Smoothing to a target: reached, never passed backwards, and nothing of the dark outside gets in."""

from __future__ import annotations

import numpy as np
import pytest

from imunity_bids.harmonize.smoothness import smoothed_to, smoothness
from tests.simulation.people import ball_brain


@pytest.fixture(scope="module")
def brain() -> tuple[np.ndarray, np.ndarray]:
    return ball_brain(1, 48)


def test_the_target_is_reached_with_the_least_kernel(brain: tuple[np.ndarray, np.ndarray]) -> None:
    volume, mask = brain
    target = smoothness(volume, mask) + 2
    smooth, done = smoothed_to(volume, mask, target)
    assert smoothness(smooth, mask) == pytest.approx(done.after) == pytest.approx(target, abs=0.05)
    assert 0 < done.kernel < target
    assert not smooth[~mask].any()
    rim = mask & (smooth > 0) & (smooth < 0.15)  # the toy's CSF is at 0.2, air at 0
    assert rim.sum() < 0.01 * mask.sum()


def test_what_is_smooth_enough_stays_as_it_is(brain: tuple[np.ndarray, np.ndarray]) -> None:
    volume, mask = brain
    own = smoothness(volume, mask)
    for target in (own / 2, own, float("nan")):
        same, done = smoothed_to(volume, mask, target)
        assert same is volume
        assert (done.kernel, done.before, done.after) == (0, own, own)
