from __future__ import annotations

import numpy as np
import pytest

from imunity_bids.errors import DataUnusable
from imunity_bids.image.white_stripe import WHITE_MATTER, to_model_scale, white_stripe


def tissues(rng: np.random.Generator, ball: np.ndarray, scale: float = 1.0, vessels: float = 0.0) -> np.ndarray:
    """CSF, gray and white matter at 20, 60, 90 (σ = 4), white the rarest; perhaps some bright vessels."""
    data = np.zeros(ball.shape, np.float32)
    kind = rng.choice([20.0, 60.0, 90.0], size=ball.sum(), p=[0.2, 0.45, 0.35])
    kind[rng.random(len(kind)) < vessels] = 180
    data[ball] = (kind + 4 * rng.standard_normal(ball.sum())) * scale
    return np.maximum(data, 0)


@pytest.mark.parametrize("scale", [0.01, 1.0, 40.0])
def test_the_peak_is_white_matter_in_any_unit(rng: np.random.Generator, ball: np.ndarray, scale: float) -> None:
    stripe = white_stripe(tissues(rng, ball, scale), ball)
    assert stripe.peak == pytest.approx(90 * scale, rel=0.02)  # one bin of the smoothed histogram is 0.1 %
    assert stripe.mean == pytest.approx(90 * scale, rel=0.02)
    assert stripe.width == pytest.approx(2.355 * 4 * scale, rel=0.3)  # widened by the smoothing


def test_bright_vessels_do_not_become_white_matter(rng: np.random.Generator, ball: np.ndarray) -> None:
    stripe = white_stripe(tissues(rng, ball, vessels=0.02), ball)
    assert stripe.peak == pytest.approx(90, rel=0.03)


def test_white_matter_lands_at_its_value_and_the_rest_in_range(rng: np.random.Generator, ball: np.ndarray) -> None:
    data = tissues(rng, ball, 12.0)
    scaled, clipped = to_model_scale(data, ball, white_stripe(data, ball))
    assert white_stripe(scaled, ball).peak == pytest.approx(WHITE_MATTER, rel=0.02)
    assert scaled.min() == 0
    assert scaled.max() <= 1
    assert clipped < 0.01
    assert (scaled[~ball] == 0).all()


def test_a_flat_brain_is_refused(ball: np.ndarray) -> None:
    with pytest.raises(DataUnusable):
        white_stripe(ball * 5.0, ball)
