"""Scans that are no plain T1w image: MP2RAGE's uniform image, and one with a contrast agent."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.integration.conftest import describe, told, write

UNIFORM = "sub-mp_rec-UNIT1"  # how the derivatives of sub-mp_UNIT1 begin


@pytest.fixture(scope="module")
def results(
    tmp_path_factory: pytest.TempPathFactory, small_brain: nib.Nifti1Image, imunity: Callable[..., int]
) -> Path:
    """A brain in noise as bright as itself, as UNIT1, and a plain one with gadolinium and a phase image beside it."""
    folder, out = tmp_path_factory.mktemp("scans"), tmp_path_factory.mktemp("scans-out")
    data = np.asarray(small_brain.dataobj)
    noise = np.random.default_rng(0).uniform(1, data.max(), data.shape)
    uniform = nib.Nifti1Image(np.where(data > 0, data, noise).astype(np.int16), small_brain.affine)
    path = write(folder, "sub-mp", uniform)
    path.rename(path.with_name("sub-mp_UNIT1.nii.gz"))
    write(folder, "sub-gd_part-mag", small_brain).with_name("sub-gd_part-mag_T1w.json").write_text(
        json.dumps({"ContrastBolusIngredient": "GADOLINIUM"})
    )
    write(folder, "sub-gd_part-phase", small_brain)
    describe(folder)
    assert imunity(folder, out) == 0
    return out


def test_a_uniform_image_is_harmonized_without_the_noise_around_it(results: Path) -> None:
    made = told(results, UNIFORM)
    assert made["Scan"]["Suffix"] == "UNIT1"
    assert any("MP2RAGE" in fix for fix in made["HeaderFixes"])
    assert made["QualityControl"]["template_dice"] > 0.85
    preproc = json.loads((results / "sub-mp" / "anat" / f"{UNIFORM}_desc-preproc_T1w.json").read_text())
    assert "bids:raw:sub-mp/anat/sub-mp_UNIT1.nii.gz" in preproc["Sources"]
    image = np.asarray(nib.load(results / "sub-mp" / "anat" / f"{UNIFORM}_desc-preproc_T1w.nii.gz").dataobj)
    assert not image[:4, :4, :4].any()


def test_a_contrast_agent_is_said_and_a_phase_image_is_none(results: Path) -> None:
    quality = told(results, "sub-gd_part-mag")["QualityControl"]
    assert quality["verdict"] == "check"
    assert "contrast agent (GADOLINIUM)" in quality["reason"]
    assert not list(results.rglob("*part-phase*"))


def test_the_validator_has_nothing_to_say(results: Path) -> None:
    validator = Path(sys.executable).with_name("bids-validator-deno")
    done = subprocess.run([validator, "--json", results], capture_output=True, text=True)
    issues = json.loads(done.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue.get("severity") in ("error", "warning")] == []
