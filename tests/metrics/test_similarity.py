"""Measures against values that can be worked out by hand, edges, and what must hold for any image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import structural_similarity

from imunity_bids.metrics import similarity


@pytest.fixture
def pair(rng: np.random.Generator, ball: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    a = rng.uniform(0.2, 0.8, ball.shape).astype(np.float32) * ball
    return a, np.clip(a + 0.1 * ball, 0, 1).astype(np.float32), ball


def test_a_shift_of_a_tenth(pair) -> None:
    assert similarity.mae(*pair) == pytest.approx(0.1, abs=1e-6)
    assert similarity.psnr(*pair) == pytest.approx(20, abs=1e-3)  # 10 · log10(1 / 0.1²)
    # The gradient changes at the rim only.
    assert similarity.gradient_correlation(*pair) > 0.95
    assert similarity.gradient_correlation(pair[0], -pair[1], pair[2]) < -0.95


def test_psnr_is_that_of_its_formula(pair, rng: np.random.Generator) -> None:
    a, _, mask = pair
    b = (a + 0.03 * rng.standard_normal(a.shape)).astype(np.float32)
    expected = -10 * np.log10(np.mean((a[mask].astype(float) - b[mask]) ** 2))
    assert similarity.psnr(a, b, mask) == pytest.approx(expected, rel=1e-6)


def test_the_same_image_is_best(pair) -> None:
    a, _, mask = pair
    assert similarity.ssim(a, a, mask) == pytest.approx(1)
    assert similarity.psnr(a, a, mask) == similarity.HIGHEST_PSNR
    assert similarity.mae(a, a, mask) == 0
    assert similarity.gradient_correlation(a, a, mask) == pytest.approx(1)


def test_what_lies_outside_the_mask_does_not_count(pair) -> None:
    a, b, mask = pair
    spoilt = np.where(mask, b, 0.9).astype(np.float32)
    assert similarity.mae(a, spoilt, mask) == similarity.mae(a, b, mask)
    assert similarity.psnr(a, spoilt, mask) == similarity.psnr(a, b, mask)


def test_ssim_of_constants_is_that_of_its_formula(ball: np.ndarray) -> None:
    """No variance: (2 · 0.4 · 0.6 + 0.01²) / (0.4² + 0.6² + 0.01²)."""
    a, b = np.full(ball.shape, 0.4), np.full(ball.shape, 0.6)
    assert similarity.ssim(a, b, ball) == pytest.approx((0.48 + 1e-4) / (0.52 + 1e-4), rel=1e-6)


def test_a_small_mask_in_a_large_volume(rng: np.random.Generator) -> None:
    """Only the surroundings of the mask are looked at; the whole volume gives the same."""
    a, b = rng.uniform(0, 1, (2, 40, 36, 32)).astype(np.float32)
    mask = np.zeros(a.shape, bool)
    mask[18:23, 30:, 14:17] = True  # touches one side of the volume
    _, local = structural_similarity(
        a, b, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )
    assert similarity.ssim(a, b, mask) == pytest.approx(local[mask].mean(), rel=1e-6)
    gradients = [np.stack(np.gradient(volume))[:, mask].ravel() for volume in (a, b)]
    assert similarity.gradient_correlation(a, b, mask) == pytest.approx(np.corrcoef(*gradients)[0, 1], abs=1e-6)


def test_ssim_falls_with_noise(pair, rng: np.random.Generator) -> None:
    a, _, mask = pair
    values = [
        similarity.ssim(a, (a + sigma * rng.standard_normal(a.shape) * mask).astype(np.float32), mask)
        for sigma in (0.02, 0.05, 0.2)
    ]
    assert values[0] > values[1] > values[2]
    assert values[2] < 0.9


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_symmetric_and_within_bounds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.uniform(0, 1, (2, 12, 12, 12))
    mask = rng.uniform(0, 1, a.shape) < 0.5
    for measure, low, high in (
        (similarity.ssim, -1, 1),
        (similarity.psnr, 0, similarity.HIGHEST_PSNR),
        (similarity.mae, 0, 1),
        (similarity.gradient_correlation, -1, 1),
    ):
        value = measure(a, b, mask)
        assert low <= value <= high
        assert measure(b, a, mask) == pytest.approx(value, abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(0.1, 10), shift=st.floats(-1, 1))
def test_correlations_do_not_see_scale_and_shift(seed: int, scale: float, shift: float) -> None:
    a, b = np.random.default_rng(seed).standard_normal((2, 200))
    assert similarity.correlation(a, scale * b + shift) == pytest.approx(similarity.correlation(a, b), abs=1e-9)
    assert similarity.correlation(a, b) == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-12)
    monotone = np.exp(b)
    assert similarity.rank_correlation(a, monotone) == pytest.approx(similarity.rank_correlation(a, b), abs=1e-12)


def test_histogram_distance_is_the_mean_shift() -> None:
    quantiles = np.linspace(0, 1, 101)
    assert similarity.histogram_distance(quantiles, quantiles + 0.2) == pytest.approx(0.2)
    assert similarity.histogram_distance(quantiles, quantiles) == 0


def test_gray_white_contrast_of_known_tissues(ball: np.ndarray, rng: np.random.Generator) -> None:
    volume = np.zeros(ball.shape)
    volume[ball] = rng.choice([0.1, 0.4, 0.6], ball.sum()) + 0.01 * rng.standard_normal(ball.sum())
    assert similarity.gray_white_contrast(volume, ball) == pytest.approx(2 * 0.2 / 1.0, rel=0.02)


def test_constant_images_do_not_divide_by_zero(ball: np.ndarray) -> None:
    flat = ball.astype(np.float32)
    assert similarity.correlation(flat[ball], flat[ball]) == 0
    assert similarity.rank_correlation(flat[ball], np.arange(ball.sum())) == 0
    assert similarity.gradient_correlation(np.ones(ball.shape), flat, ball) == 0
    assert similarity.gray_white_contrast(flat, ball) == 0
