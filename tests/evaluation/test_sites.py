"""Can a classifier tell sites?"""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

pytest.importorskip("sklearn", reason="evaluation needs the extra `train`")

from imunity_bids.cli.evaluate import main
from imunity_bids.evaluation.sites import intensity_and_texture, site_accuracy
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


def test_sites_before_and_after(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two sites that differ by a γ before and by nothing after."""
    for site, power in (("A", 1.0), ("B", 1.5)):
        for number in range(6):
            brain, mask = ball_brain(number + 10 * (site == "B"), size=32)
            stem = tmp_path / site / f"sub-{number}" / "anat" / f"sub-{number}_space-T_res-1_"
            stem.parent.mkdir(parents=True)
            for name, data in (("preproc_T1w", brain**power), ("harmonized_T1w", brain), ("brain_mask", mask)):
                nib.Nifti1Image(data.astype(np.float32), np.eye(4)).to_filename(f"{stem}desc-{name}.nii.gz")
    assert main(["sites", str(tmp_path / "out"), str(tmp_path / "A"), str(tmp_path / "B")]) == 0
    summary = json.loads((tmp_path / "out" / "sites.json").read_text())
    assert summary["accuracy"]["before"] == 1
    assert summary["accuracy"]["after"] <= 0.85  # 12 images: chance, give or take
    contrast = summary["gray_white_contrast"]
    assert contrast["after"]["A"]["mean"] == pytest.approx(contrast["after"]["B"]["mean"], rel=0.1)
    assert contrast["before"]["B"]["mean"] > 1.2 * contrast["before"]["A"]["mean"]
    assert main(["sites", str(tmp_path / "out"), str(tmp_path / "A")]) == 64
    assert main(["sites", str(tmp_path / "out"), str(tmp_path / "A"), str(tmp_path)[:-1]]) == 66
