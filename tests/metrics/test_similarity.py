from __future__ import annotations

import numpy as np
import pytest

from imunity_bids.metrics import similarity


@pytest.fixture
def pair(rng: np.random.Generator, ball: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    a = rng.uniform(0.2, 0.8, ball.shape).astype(np.float32) * ball
    return a, np.clip(a + 0.1 * ball, 0, 1).astype(np.float32), ball


def test_a_shift_of_a_tenth(pair) -> None:
    assert similarity.mae(*pair) == pytest.approx(0.1, abs=1e-6)
    assert similarity.psnr(*pair) == pytest.approx(20, abs=1e-3)
    # the gradient changes at the rim only
    assert similarity.gradient_correlation(*pair) > 0.95
    assert similarity.gradient_correlation(pair[0], -pair[1], pair[2]) < -0.95


def test_ssim_is_one_for_the_same_and_falls_with_noise(pair, rng: np.random.Generator) -> None:
    a, _, mask = pair
    noisy = (a + 0.2 * rng.standard_normal(a.shape) * mask).astype(np.float32)
    assert similarity.ssim(a, a, mask) == pytest.approx(1)
    assert similarity.ssim(a, noisy, mask) < 0.9


def test_histogram_distance_is_the_mean_shift() -> None:
    quantiles = np.linspace(0, 1, 101)
    assert similarity.histogram_distance(quantiles, quantiles + 0.2) == pytest.approx(0.2)


def test_gray_white_contrast_of_known_tissues(ball: np.ndarray, rng: np.random.Generator) -> None:
    volume = np.zeros(ball.shape)
    volume[ball] = rng.choice([0.1, 0.4, 0.6], ball.sum()) + 0.01 * rng.standard_normal(ball.sum())
    assert similarity.gray_white_contrast(volume, ball) == pytest.approx(2 * 0.2 / 1.0, rel=0.02)


def test_constant_images_do_not_divide_by_zero(ball: np.ndarray) -> None:
    flat = ball.astype(np.float32)
    assert similarity.correlation(flat[ball], flat[ball]) == 0
    assert similarity.gray_white_contrast(flat, ball) == 0
