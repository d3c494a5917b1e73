"""A lesion is kept out of every estimate: the rest comes out as if it were not there."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from imunity_bids.cli.harmonize import main
from tests.integration.conftest import SMALL, describe, sidecar, told, voxels, write

ROI = "sub-with_label-lesion_roi.nii.gz"
URI = f"bids:raw:sub-with/anat/{ROI}"


def darkened(image: nib.Nifti1Image, volume_ml: float = 20.0) -> tuple[nib.Nifti1Image, np.ndarray]:
    """The image with a dark ball in the white matter of its left side, and the ball (bool)."""
    data = np.asarray(image.dataobj, dtype=np.float32)
    inside = np.argwhere(data > 0)
    centre = np.median(inside, axis=0) + np.ptp(inside, axis=0) * (-0.17, 0, 0.1)
    distance = np.linalg.norm((np.moveaxis(np.indices(data.shape), 0, -1) - centre) * image.header.get_zooms(), axis=-1)
    ball = (distance < (3000 * volume_ml / (4 * np.pi)) ** (1 / 3)) & (data > 0)
    return nib.Nifti1Image(np.where(ball, 0.25 * data, data).astype(np.int16), image.affine), ball


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, small_brain: nib.Nifti1Image) -> Path:
    """One brain three times: whole; with a lesion and its mask; with the lesion alone."""
    folder = tmp_path_factory.mktemp("lesions") / "bids"
    dark, ball = darkened(small_brain)
    assert ball.sum() * np.prod(small_brain.header.get_zooms()) / 1000 == pytest.approx(20, rel=0.1)
    write(folder, "sub-whole", small_brain)
    for name in ("sub-with", "sub-without"):
        write(folder, name, dark)
    nib.Nifti1Image(ball.astype(np.uint8), small_brain.affine).to_filename(folder / "sub-with" / "anat" / ROI)
    describe(folder)
    return folder


@pytest.fixture(scope="module")
def results(dataset: Path, tmp_path_factory: pytest.TempPathFactory, imunity: Callable[..., int]) -> Path:
    """To the bundle's reference and to the scan with the lesion."""
    out = tmp_path_factory.mktemp("out")
    references = ("--reference", "default", "--reference", "sub-with", "--reference", "sub-without")
    assert imunity(dataset, out, "--omp-nthreads", 1, *references, "--reference", "sub-whole") == 0
    return out


def lesion_of(out: Path) -> np.ndarray:
    return (
        nib.load(
            sidecar(out, "sub-with").with_name(f"sub-with_space-{SMALL}_res-1_label-lesion_mask.nii.gz")
        ).get_fdata()
        > 0
    )


def change(out: Path, name: str, description: str) -> float:
    """Mean absolute difference of the rest of the brain from that of the brain without lesion."""
    whole = voxels(out, "sub-whole", description)
    rest = (whole > 0) & ~lesion_of(out)
    return float(np.abs(voxels(out, name, description) - whole)[rest].mean())


@pytest.mark.parametrize("description", ["preproc", "harmonized+subwhole"])
def test_the_rest_is_as_if_there_were_no_lesion(results: Path, description: str) -> None:
    """White matter is at 0.7. The tiny bundle's own reference, an even ramp, would stretch any difference.

    Preprocessed, this head, which is the template's own in another size, shows no more of it either way than another
    seed of the registration would (0.03 mm, 0.0013): what a mask gains there is in `image/test_registration.py`.
    """
    with_mask, without = (change(results, name, description) for name in ("sub-with", "sub-without"))
    assert with_mask < 0.005
    if description != "preproc":
        assert with_mask < 0.9 * without


def test_the_lesion_itself_is_harmonized(results: Path) -> None:
    lesion = lesion_of(results)
    assert lesion.sum() * 0.027 == pytest.approx(20 / 0.93**3, rel=0.35)  # its border is taken in whole voxels of 3 mm
    before, after = (voxels(results, "sub-with", d)[lesion] for d in ("preproc", "harmonized"))
    assert (before > 0).mean() > 0.97  # the dark side of the spline cuts a few voxels to 0
    assert ((after > 0) == (before > 0)).all()
    assert np.corrcoef(before, after)[0, 1] > 0.9


def test_a_lesion_of_the_reference_counts_no_more(results: Path) -> None:
    """Quantiles of the reference are those of the brain without lesion."""
    quantiles = {
        name: np.array(told(results, "sub-whole", f"harmonized+{name}")["Harmonization"]["ReferenceQuantiles"])
        for name in ("subwith", "subwithout", "subwhole")
    }
    with_mask, without = (
        np.abs(quantiles[name] - quantiles["subwhole"])[1:].mean() for name in ("subwith", "subwithout")
    )
    assert with_mask < 0.005 < without
    scans = told(results, "sub-whole", "harmonized+subwith")["Harmonization"]["Reference"]["scans"]
    assert scans[0]["Masks"] == [URI]
    assert URI in told(results, "sub-whole", "harmonized+subwith")["Sources"]


def test_it_is_named_and_drawn(results: Path) -> None:
    record = told(results, "sub-with")
    assert record["Lesions"]["Masks"] == [URI]
    assert record["Lesions"]["VolumeML"] == pytest.approx(20, rel=0.1)
    assert URI in record["Sources"]
    assert "Lesions" not in told(results, "sub-without")
    page = (results / "sub-with.html").read_text()
    assert URI in page and "The line is the lesion." in page
    assert "The line is the lesion." not in (results / "sub-without.html").read_text()
    assert "lesions (1 of 3 images) were kept out" in (results / "logs" / "CITATION.md").read_text()
    mask = json.loads(
        sidecar(results, "sub-with").with_name(f"sub-with_space-{SMALL}_res-1_label-lesion_mask.json").read_text()
    )
    assert mask["Type"] == "Lesion" and mask["Sources"] == [URI]


def test_the_validator_has_nothing_to_say(results: Path) -> None:
    validator = Path(sys.executable).with_name("bids-validator-deno")
    done = subprocess.run([validator, "--json", results], capture_output=True, text=True)
    issues = json.loads(done.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue.get("severity") in ("error", "warning")] == []


def test_one_file_with_its_lesion_is_the_same_image(
    dataset: Path, results: Path, bundle_folder: Path, tmp_path: Path
) -> None:
    anat = dataset / "sub-with" / "anat"
    call = (anat / "sub-with_T1w.nii.gz", tmp_path / "out.nii.gz", "--lesion", anat / ROI, "--model", bundle_folder,
            "--template", SMALL, "--omp-nthreads", 1, "--skull-strip", "none")  # fmt: skip
    assert main([str(word) for word in call]) == 0
    made = nib.load(tmp_path / "out.nii.gz").get_fdata(dtype=np.float32)
    np.testing.assert_array_equal(made, voxels(results, "sub-with"))
    record = json.loads((tmp_path / "out.json").read_text())
    assert record["Lesions"]["Masks"] == [(anat / ROI).as_uri()]


def test_without_its_mask_the_image_is_made_anew_and_the_old_lesion_goes(
    dataset: Path, tmp_path: Path, imunity: Callable[..., int]
) -> None:
    here, out = tmp_path / "bids", tmp_path / "out"
    write(here, "sub-with", nib.load(dataset / "sub-with" / "anat" / "sub-with_T1w.nii.gz"))
    describe(here)
    roi = here / "sub-with" / "anat" / ROI
    roi.write_bytes((dataset / "sub-with" / "anat" / ROI).read_bytes())
    assert imunity(here, out) == 0
    assert lesion_of(out).any()
    roi.unlink()
    assert imunity(here, out) == 0
    assert not list(out.rglob("*lesion*"))
    assert "Lesions" not in told(out, "sub-with")
