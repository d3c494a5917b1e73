"""Changes of intensity that harmonization must beat."""

from __future__ import annotations

import numpy as np
import pytest

from imunity_bids.evaluation import baselines
from tests.simulation.people import ball_brain


@pytest.fixture(scope="module")
def brain() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A brain, its mask, and the brain after a γ of 1.5."""
    volume, mask = ball_brain()
    return volume, mask, (volume**1.5).astype(np.float32)


def matching(brain: np.ndarray, mask: np.ndarray, reference: np.ndarray) -> np.ndarray:
    return baselines.histogram_matching(brain, mask, [reference])


def tissue_curve(brain: np.ndarray, mask: np.ndarray, reference: np.ndarray) -> np.ndarray:
    return baselines.tissue_curve(brain, mask, [reference])


@pytest.mark.parametrize(
    ("method", "limit"),
    [
        (matching, 5e-4),  # lines between percentiles, too
        (lambda dark, mask, bright: baselines.nyul(dark, mask, [bright]), 0.005),  # lines between fewer of them
        (tissue_curve, 0.015),  # lines between three tissues
        (baselines.best_curve, 0.001),  # 1024 levels
    ],
    ids=["histogram matching", "Nyúl", "tissue curve", "best curve"],
)
def test_each_brings_the_same_brain_back(brain, method, limit: float) -> None:
    bright, mask, dark = brain
    assert np.abs(method(dark, mask, bright) - bright)[mask].mean() < limit < np.abs(dark - bright)[mask].mean()


@pytest.mark.parametrize("method", [matching, tissue_curve, baselines.best_curve])
def test_the_background_stays_zero_and_the_range_is_kept(brain, method) -> None:
    bright, mask, dark = brain
    image = method(dark, mask, np.where(mask, np.minimum(bright * 1.6, 1), 0))
    assert (image[~mask] == 0).all()
    assert image.min() >= 0 and image.max() <= 1


@pytest.mark.parametrize("method", [baselines.nyul, baselines.histogram_matching])
def test_the_mean_of_references_is_taken(brain, method) -> None:
    """Two references that differ by a factor: the brain is brought to the factor between."""
    bright, mask, _ = brain
    image = method(bright, mask, [0.8 * bright, bright])
    inside = mask & (bright > np.percentile(bright[mask], 1))  # below the first landmark all is as dark as it
    np.testing.assert_allclose(image[inside], 0.9 * bright[inside], atol=1e-4)


def test_the_best_curve_is_at_least_as_good_as_any_other_monotone_curve(brain) -> None:
    bright, mask, dark = brain
    noisy = np.clip(bright + 0.05 * np.random.default_rng(0).standard_normal(bright.shape), 0, 1) * mask
    best = np.square(baselines.best_curve(dark, mask, noisy) - noisy)[mask].mean()
    for method in (matching, tissue_curve):
        assert best <= np.square(method(dark, mask, noisy) - noisy)[mask].mean() + 1e-6
    assert best == pytest.approx(0.05**2, rel=0.1)  # the noise, a little of it being fitted or clipped


def test_a_best_curve_never_falls(brain) -> None:
    bright, mask, _ = brain
    upside_down = np.where(mask, 1 - bright, 0)
    image = baselines.best_curve(bright, mask, upside_down)
    np.testing.assert_allclose(
        image[mask], upside_down[mask].mean(), atol=1e-4
    )  # the best that does not fall: a constant
