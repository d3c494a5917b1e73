"""Noise in white matter, measured and brought to the reference's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage

from imunity_bids.harmonize.noise import match_noise, white_noise

SIZE = 80
SPOT = (20, 0, 0)  # voxels from the middle, deep in white matter


def phantom(noise: float, seed: int = 0, spot: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """A ball of white matter in a shell of gray matter, 1 mm; `spot` is the height of a Gaussian 2 mm wide."""
    grid = np.indices((SIZE,) * 3) - (SIZE - 1) / 2
    radius = np.sqrt((grid**2).sum(0))
    mask = radius < 38
    image = ndimage.gaussian_filter(np.where(radius < 30, 0.7, 0.45), 0.8)
    place = np.sqrt(((grid - np.array(SPOT)[:, None, None, None] - 0.5) ** 2).sum(0))
    image = image + spot * np.exp(-0.5 * (place / 0.85) ** 2)
    rng = np.random.default_rng(seed)
    return ((image + noise * rng.standard_normal(mask.shape)) * mask).astype(np.float32), mask


@pytest.mark.parametrize("noise", [0.01, 0.03, 0.06])
def test_noise_of_white_matter_is_found(noise: float) -> None:
    """Within 5 %: some ten thousand voxels tell a standard deviation to 1 %, the ball's slope adds a little."""
    assert white_noise(*phantom(noise)) == pytest.approx(noise, rel=0.05)


def test_too_little_white_matter_tells_nothing() -> None:
    volume, mask = phantom(0.03)
    assert math.isnan(white_noise(0.5 * volume, mask))  # no voxel at 0.7
    same, noise = match_noise(0.5 * volume, mask, 0.01)
    assert math.isnan(noise.before)
    np.testing.assert_array_equal(same, 0.5 * volume)


@pytest.mark.parametrize("wanted", [0.03, 0.026, math.nan])
def test_what_is_not_noisier_than_the_reference_stays_as_it_is(wanted: float) -> None:
    volume, mask = phantom(0.03)
    same, noise = match_noise(volume, mask, wanted)
    np.testing.assert_array_equal(same, volume)
    assert noise.strength == 0


def test_noise_comes_to_the_level_of_the_reference_and_no_further() -> None:
    """Between 1 and 1.2 times the wanted noise, tissues as bright as before, nothing outside the mask."""
    volume, mask = phantom(0.04)
    quiet, noise = match_noise(volume, mask, 0.02)
    assert 0.02 <= noise.after <= 1.2 * 0.02
    assert white_noise(quiet, mask) == pytest.approx(noise.after, rel=0.1)  # white matter is found anew
    assert (quiet[~mask] == 0).all()
    radius = np.sqrt(((np.indices(mask.shape) - (SIZE - 1) / 2) ** 2).sum(0))
    for inside in (radius < 26, (radius > 32) & (radius < 36)):
        assert abs(float(quiet[inside].mean() - volume[inside].mean())) < 1e-3


def test_a_small_bright_spot_keeps_its_height() -> None:
    """90 % of it: mean over four draws of the noise, by which a single voxel varies."""
    kept = []
    for seed in range(4):
        with_spot, without = (match_noise(*phantom(0.03, seed, spot), 0.015)[0] for spot in (0.2, 0.0))
        place = tuple(int((SIZE - 1) / 2 + 0.5 + offset) for offset in SPOT)
        kept.append(float(with_spot[place] - without[place]) / 0.2)
    assert np.mean(kept) > 0.9


def test_an_edge_keeps_its_width() -> None:
    """Slope of the mean profile across the border between gray and white matter: within 5 %."""
    radius = np.sqrt(((np.indices((SIZE,) * 3) - (SIZE - 1) / 2) ** 2).sum(0))
    shells = np.digitize(radius, np.arange(27, 33.5, 0.5))

    def steepest(volume: np.ndarray) -> float:
        profile = np.array([volume[shells == number].mean() for number in range(1, 13)])
        return float(np.abs(np.diff(profile)).max())

    clean, _ = phantom(0.0)
    quiet, _ = match_noise(*phantom(0.04), 0.02)
    assert steepest(quiet) == pytest.approx(steepest(clean), rel=0.05)
