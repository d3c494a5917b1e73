"""Can a classifier tell sites?"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from imunity_bids.evaluation.sites import site_accuracy
from imunity_bids.metrics.textures import intensity_and_texture
from tests.simulation.people import ball_brain


def test_first_order_features_of_known_intensities() -> None:
    mask = np.zeros((20, 20, 20), bool)
    mask[2:18, 2:18, 2:18] = True
    image = np.zeros(mask.shape, np.float32)
    image[mask] = np.linspace(0.2, 0.8, mask.sum())
    features = intensity_and_texture(image, mask)
    assert features["mean"] == pytest.approx(0.5, abs=1e-4)
    assert features["std"] == pytest.approx(0.6 / np.sqrt(12), rel=1e-3)  # uniform
    assert features["skewness"] == pytest.approx(0, abs=1e-3)
    assert features["kurtosis"] == pytest.approx(-1.2, abs=1e-2)
    assert features["q25"] == pytest.approx(0.35, abs=1e-3)


def test_textures_of_a_constant_and_of_stripes() -> None:
    mask = np.ones((24, 24, 24), bool)
    flat = intensity_and_texture(np.full(mask.shape, 0.5, np.float32), mask)
    assert (flat["contrast1"], flat["energy1"], flat["homogeneity1"]) == pytest.approx((0, 1, 1))
    stripes = np.full(mask.shape, 0.25, np.float32)
    stripes[:, :, ::2] = 0.75  # 16 of 32 levels apart, from slice to slice
    texture = intensity_and_texture(stripes, mask)
    assert texture["contrast1"] > 0.2 * 16**2  # a third of the pairs at distance 1 cross a stripe, or more
    assert texture["contrast2"] < texture["contrast1"]  # every other slice is the same


def test_the_outline_of_the_mask_is_no_texture() -> None:
    brain, mask = np.full((24, 24, 24), 0.5, np.float32), np.zeros((24, 24, 24), bool)
    mask[4:20, 4:20, 4:20] = True
    texture = intensity_and_texture(brain * mask, mask)
    assert texture["contrast1"] == 0
    assert texture["energy1"] == pytest.approx(1)


def test_the_classifier_tells_scanners_that_differ_and_not_those_that_do_not() -> None:
    rows = []
    for number in range(8):
        brain, mask = ball_brain(number, 32)
        for site, power in (("a", 1.0), ("b", 1.4)):
            rows.append({"person": f"{number}", "site": site, "method": "raw"})
            rows[-1] |= intensity_and_texture((brain**power).astype(np.float32), mask)
    table = pd.DataFrame(rows)
    assert site_accuracy(table) > 0.9
    same = table.copy()
    same.loc[same.site == "b", same.columns[3:]] = same.loc[same.site == "a", same.columns[3:]].to_numpy()
    assert site_accuracy(same) <= 0.5  # the pairs are alike: an answer is right for one of the two at most
