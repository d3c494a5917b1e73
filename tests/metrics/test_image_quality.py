"""MRIQC's measures, on samples and fields of which they are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage

from imunity_bids.metrics.image_quality import cjv, cnr, efc, fwhm, image_quality, inu, snr, wm2max, wm_cov

MANY = 200_000  # a standard deviation of this sample is off by 0.2 %


@pytest.fixture
def white(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(0.7, 0.03, MANY)


@pytest.fixture
def gray(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(0.5, 0.05, MANY)


def test_two_tissues_of_known_levels_and_noise(white: np.ndarray, gray: np.ndarray) -> None:
    assert cjv(white, gray) == pytest.approx((0.03 + 0.05) / 0.2, rel=0.01)
    assert cnr(white, gray) == pytest.approx(0.2 / math.hypot(0.03, 0.05), rel=0.01)
    assert snr(white) == pytest.approx(0.7 / 0.03, rel=0.01)
    assert wm_cov(white) == pytest.approx(0.03 / 0.7, rel=0.01)


def test_an_outlier_moves_only_what_is_no_median(white: np.ndarray, gray: np.ndarray) -> None:
    spoilt = np.append(white, np.full(MANY // 50, 5.0))
    assert cjv(spoilt, gray) == pytest.approx(cjv(white, gray), rel=0.02)
    assert wm_cov(spoilt) == pytest.approx(wm_cov(white), rel=0.05)
    assert snr(spoilt) < 0.1 * snr(white)


def test_snr_of_few_voxels_by_hand() -> None:
    assert snr(np.array([1.0, 2.0, 6.0])) == pytest.approx(2 / (math.sqrt(14 / 3) * math.sqrt(3 / 2)))


def test_white_matter_against_the_brightest() -> None:
    brain = np.append(np.full(9999, 0.5), 50.0)  # one voxel in 10 000 is above the 99.95th percentile
    assert wm2max(np.full(10, 0.4), brain) == pytest.approx(0.8)


def test_entropy_of_one_voxel_and_of_equal_ones() -> None:
    assert efc(np.full(1000, 0.3)) == pytest.approx(1)
    assert efc(np.eye(1, 1000)[0]) == pytest.approx(0, abs=1e-12)
    assert 0 < efc(np.linspace(0, 1, 1000)) < 1


def test_smoothness_of_smoothed_noise(rng: np.random.Generator, ball: np.ndarray) -> None:
    """σ of 1.5, 2 and 2.5 voxels of 1, 2 and 0.5 mm; 33 000 voxels hold 340 such blobs."""
    sigma, spacing = np.array([1.5, 2.0, 2.5]), (1.0, 2.0, 0.5)
    noise = ndimage.gaussian_filter(rng.standard_normal(ball.shape), sigma)
    expected = math.sqrt(8 * math.log(2)) * sigma * spacing
    np.testing.assert_allclose(fwhm(noise, ball, spacing), expected, rtol=0.08)
    beyond = np.where(ball, noise, 100.0)
    assert fwhm(beyond, ball, spacing) == fwhm(noise, ball, spacing)  # what is outside does not count


def test_white_noise_and_what_is_rougher_have_no_width(rng: np.random.Generator, ball: np.ndarray) -> None:
    chequered = (np.indices(ball.shape).sum(0) % 2).astype(float)
    assert fwhm(chequered, ball, (1.0, 1.0, 1.0)) == (0, 0, 0)
    assert max(fwhm(rng.standard_normal(ball.shape), ball, (1.0, 1.0, 1.0))) < 0.8  # of a chance correlation


def test_range_and_median_of_a_field(ball: np.ndarray) -> None:
    field = np.ones(ball.shape)
    field[ball] = np.linspace(0.8, 1.2, np.count_nonzero(ball))
    measured = inu(field, ball)
    assert measured["inu_range"] == pytest.approx(0.9 * 0.4, rel=1e-3)
    assert measured["inu_med"] == pytest.approx(1.0, rel=1e-3)


def test_a_tissue_without_voxels_has_no_number(recwarn: pytest.WarningsRecorder, ball: np.ndarray) -> None:
    flat, inside = np.full(ball.shape, 0.5), {"csf": ball & False, "gray": ball, "white": ball}
    measured = image_quality(flat, ball, inside, (1.0, 1.0, 1.0))
    assert math.isnan(measured["snr_csf"])
    assert not math.isfinite(measured["cjv"]) and not math.isfinite(measured["snr_wm"])
    assert measured["wm2max"] == 1
    assert not [warning for warning in recwarn if issubclass(warning.category, RuntimeWarning)]
