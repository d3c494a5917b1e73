from __future__ import annotations

import numpy as np
import pytest

from imunity_bids.qc.brain import brain_of
from imunity_bids.qc.image_quality import image_quality
from imunity_bids.qc.measures import IMAGE_QUALITY
from tests.simulation.people import ball_brain


@pytest.fixture
def scan() -> tuple[np.ndarray, np.ndarray]:
    return ball_brain(3, 64)


def test_before_and_after_have_all_measures_of_the_table(scan: tuple[np.ndarray, np.ndarray]) -> None:
    """Half the noise in one tissue model: half the variation, and the same levels."""
    brain, mask = scan
    quiet = (brain - 0.5 * noise_of(brain, mask)).astype(np.float32)
    measured = image_quality(brain_of(brain, quiet, mask))
    assert set(measured) | {"inu_range", "inu_med"} == {measure.name for measure in IMAGE_QUALITY}
    assert measured["snr_wm_after"] > 1.5 * measured["snr_wm_before"]
    assert measured["cjv_after"] < measured["cjv_before"]
    assert measured["wm_cov_before"] == pytest.approx(0.01 / 0.7, rel=0.1)  # as it was drawn


def test_a_lesion_counts_for_nothing(scan: tuple[np.ndarray, np.ndarray]) -> None:
    brain, mask = scan
    grid = np.indices(brain.shape) - np.array([32, 32, 45])[:, None, None, None]
    lesion = mask & ((grid**2).sum(0) < 6**2)
    dark = np.where(lesion, 0.3 * brain, brain).astype(np.float32)
    known, unknown = (image_quality(brain_of(dark, dark, mask, seen)) for seen in (mask & ~lesion, None))
    without = image_quality(brain_of(brain, brain, mask, mask & ~lesion))
    for name in ("fwhm_x_before", "efc_before"):
        assert known[name] == pytest.approx(without[name], rel=1e-6)
        assert abs(unknown[name] - without[name]) > 1e-3


def test_no_brain_no_numbers() -> None:
    nothing = np.zeros((20, 20, 20), np.float32)
    assert brain_of(nothing, nothing, nothing > 0) is None
    assert image_quality(None) == {}


def noise_of(brain: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """What was added to the levels of the toy, as far from its borders."""
    levels = np.array([0.2, 0.5, 0.7])
    nearest = levels[np.abs(brain[None] - levels[:, None, None, None]).argmin(axis=0)]
    difference = (brain - nearest) * mask
    return np.where(np.abs(difference) < 0.05, difference, 0)
