"""MP2RAGE's uniform image, made from two noisy inversions: the background goes, the head stays."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from imunity_bids.image.background import has_noise_background, without_noise_background
from imunity_bids.image.conform import conform

NOISE = 0.03  # of the second inversion's signal


@pytest.fixture
def uniform(rng: np.random.Generator, ball: np.ndarray) -> np.ndarray:
    """I1 I2 / (I1² + I2²) in [-0.5, 0.5] of a ball with a bright core and a dark middle, in empty air."""
    core, middle = (ndimage.binary_erosion(ball, iterations=times) for times in (6, 15))
    wanted = np.select([middle, core, ball], [-0.4, 0.35, 0.1])
    ratio = (1 - np.sqrt(1 - 4 * wanted**2)) / (2 * np.where(wanted == 0, 1, wanted))
    first, second = (signal + NOISE * rng.standard_normal(ball.shape) for signal in (ratio * ball, 1.0 * ball))
    return (first * second / (first**2 + second**2)).astype(np.float32)


def test_air_becomes_empty_and_the_head_stays_as_it_is(uniform: np.ndarray, ball: np.ndarray) -> None:
    lifted = uniform + 0.5
    assert has_noise_background(lifted)
    quiet, share = without_noise_background(lifted)
    inner = ndimage.binary_erosion(ball, iterations=2)
    np.testing.assert_array_equal(quiet[inner], lifted[inner])
    far = ~ndimage.binary_dilation(ball, iterations=3)
    assert not quiet[far].any()
    assert share == pytest.approx(1 - ball.mean(), abs=0.05)


def test_other_backgrounds_are_left_alone(rng: np.random.Generator, ball: np.ndarray) -> None:
    head = np.where(ball, 1.0, 0.0)
    for air in (0.0, 0.1 * np.abs(rng.standard_normal(ball.shape)), 0.5):  # empty, a magnitude's noise, a constant
        assert not has_noise_background(np.where(ball, head, air))


def test_conforming_says_so(uniform: np.ndarray, ball: np.ndarray) -> None:
    """Stored from -0.5 to 0.5, as some scanners do."""
    image = nib.Nifti1Image(uniform, np.diag([2.0, 2.0, 2.0, 1.0]))
    conformed, fixes = conform(image, uniform)
    assert any("MP2RAGE" in fix for fix in fixes)
    data = np.asarray(conformed.dataobj)
    assert (data[~ndimage.binary_dilation(ball, iterations=3)] == 0).all()
    assert data[ball].mean() > 0.3
