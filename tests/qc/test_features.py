"""What is stored of each image: numbers of brains whose levels are known."""

from __future__ import annotations

import json

import numpy as np
import pytest

from imunity_bids.metrics.textures import intensity_and_texture
from imunity_bids.metrics.tissue_ratios import tissue_ratios, well_inside
from imunity_bids.qc.brain import brain_of
from imunity_bids.qc.features import image_features
from tests.simulation.people import ball_brain

QUANTILES = np.linspace(0.1, 0.9, 101)


def test_features_of_a_brain_of_three_levels() -> None:
    brain, mask = ball_brain(3, 64)
    framed, around = np.zeros((70, 72, 66), np.float32), np.zeros((70, 72, 66), bool)
    framed[2:66, 4:68, 1:65], around[2:66, 4:68, 1:65] = brain, mask  # the field of view does not matter
    stored = json.loads(json.dumps(image_features(brain_of(framed, framed**1.5, around), QUANTILES), allow_nan=False))
    images = stored["Images"]
    assert images["before"]["Ratios"]["gray_white"] == pytest.approx(0.5 / 0.7, abs=0.005)
    assert images["after"]["Ratios"]["gray_white"] == pytest.approx((0.5 / 0.7) ** 1.5, abs=0.006)
    assert images["before"]["Ratios"] == tissue_ratios(brain, well_inside(brain, mask))  # every voxel
    for name in ("before", "after", "matching"):
        assert sum(images[name]["VolumesML"].values()) == pytest.approx(mask.sum() / 1000, rel=0.02)
    matched = images["matching"]["Intensities"]
    assert matched["q25"] == pytest.approx(0.3, abs=0.01)  # what 25 % of the reference lie below
    assert stored["MaskShape"]["volume_ml"] == pytest.approx(mask.sum() / 1000, rel=0.02)
    assert images["blurred"]["Intensities"]["contrast1"] < 0.7 * images["before"]["Intensities"]["contrast1"]
    assert set(images["blurred"]) == {"Intensities"}
    whole = intensity_and_texture(brain, mask)
    assert images["before"]["Intensities"]["mean"] == pytest.approx(whole["mean"], abs=0.005)  # by every second voxel


def test_what_is_no_brain_has_no_features() -> None:
    brain, mask = np.full((30, 30, 30), 0.5, np.float32), np.zeros((30, 30, 30), bool)
    assert set(image_features(brain_of(brain, brain, mask), QUANTILES)) == {"Description"}
    mask[5:20, 5:20, 5:20] = True
    assert set(image_features(brain_of(brain, brain, mask), QUANTILES)) == {"Description"}


def test_what_is_not_defined_is_null(recwarn: pytest.WarningsRecorder) -> None:
    """A constant image has no skewness, and one tissue only."""
    flat, mask = np.full((30, 30, 30), 0.5, np.float32), np.ones((30, 30, 30), bool)
    stored = image_features(brain_of(flat, flat, mask), QUANTILES)
    assert stored["Images"]["before"]["Intensities"]["skewness"] is None
    assert None in stored["Images"]["before"]["Ratios"].values()
    json.dumps(stored, allow_nan=False)
