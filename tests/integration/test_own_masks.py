"""Masks that others made: used where they are, computed where not, named everywhere."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from imunity_bids.cli.harmonize import main
from tests.integration.conftest import SMALL, sidecar, told, voxels

STEM = "sub-01/anat/sub-01"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, make_bids: Callable) -> Path:
    return make_bids(tmp_path_factory.mktemp("own") / "bids", {"sub-01": 1.0, "sub-02": 1.2})


@pytest.fixture(scope="module")
def masks(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Derivatives with a mask of the first, 3 mm narrower than what is not empty, as fMRIPrep names it; LAS."""
    folder = tmp_path_factory.mktemp("fmriprep")
    scan = nib.load(dataset / f"{STEM}_T1w.nii.gz")
    brain = ndimage.binary_erosion(ndimage.binary_fill_holes(scan.get_fdata() > 0))
    path = folder / f"{STEM}_desc-brain_mask.nii.gz"
    path.parent.mkdir(parents=True)
    image = nib.Nifti1Image(brain.astype(np.uint8), scan.affine)
    image.as_reoriented(np.array([[0, -1], [1, 1], [2, 1]])).to_filename(path)
    return folder


@pytest.fixture(scope="module")
def results(dataset: Path, masks: Path, tmp_path_factory: pytest.TempPathFactory, imunity: Callable[..., int]) -> Path:
    out = tmp_path_factory.mktemp("out")
    assert imunity(dataset, out, "--omp-nthreads", 1, "--derivatives", f"prep={masks}") == 0
    return out


def mask_of(out: Path, stem: str = STEM) -> np.ndarray:
    return nib.load(out / f"{stem}_desc-brain_mask.nii.gz").get_fdata() > 0


def test_the_mask_is_the_one_that_was_given(dataset: Path, masks: Path, results: Path) -> None:
    given = nib.as_closest_canonical(nib.load(masks / f"{STEM}_desc-brain_mask.nii.gz"))
    np.testing.assert_array_equal(mask_of(results), given.get_fdata() > 0)
    own = nib.as_closest_canonical(nib.load(dataset / "sub-02/anat/sub-02_T1w.nii.gz")).get_fdata() > 0
    assert (mask_of(results, "sub-02/anat/sub-02") & own).sum() == own.sum()  # of this one there was none
    assert told(results, "sub-02")["BrainExtraction"] == "none"


def sidecars(person: Path) -> list[Path]:
    """Of images; the features for the group level are no sidecar."""
    return [path for path in (person / "anat").glob("*.json") if not path.name.endswith("_features.json")]


def test_its_source_is_named_in_sidecars_links_and_report(masks: Path, results: Path) -> None:
    uri = f"bids:prep:{STEM}_desc-brain_mask.nii.gz"
    for path in sidecars(results / "sub-01"):
        assert uri in json.loads(path.read_text())["Sources"], path.name
    for path in sidecars(results / "sub-02"):
        assert not any(source.startswith("bids:prep:") for source in json.loads(path.read_text())["Sources"])
    links = json.loads((results / "dataset_description.json").read_text())["DatasetLinks"]
    assert links["prep"] == masks.as_uri() and set(links) == {"raw", "prep"}
    assert told(results, "sub-01")["BrainExtraction"] == f"mask {uri}"
    assert json.loads((results / f"{STEM}_desc-preproc_T1w.json").read_text())["SkullStripped"] is True
    assert uri in (results / "sub-01.html").read_text()
    assert "(of 1 of 2 images the mask came with the data)" in (results / "logs" / "CITATION.md").read_text()


def test_the_validator_has_nothing_to_say(results: Path) -> None:
    validator = Path(sys.executable).with_name("bids-validator-deno")
    done = subprocess.run([validator, "--json", results], capture_output=True, text=True)
    issues = json.loads(done.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue.get("severity") in ("error", "warning")] == []


def test_another_mask_makes_the_image_anew_and_only_that_one(
    dataset: Path, masks: Path, results: Path, imunity: Callable[..., int], capsys: pytest.CaptureFixture
) -> None:
    options = ("--omp-nthreads", 1, "--dry-run")
    assert imunity(dataset, results, *options, "--derivatives", f"prep={masks}") == 0
    assert "run " not in capsys.readouterr().out
    assert imunity(dataset, results, *options) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if "sub-0" in line] == ["run", "done"]


def test_one_file_with_its_mask_is_the_same_image(
    dataset: Path, masks: Path, results: Path, bundle_folder: Path, tmp_path: Path
) -> None:
    mask = masks / f"{STEM}_desc-brain_mask.nii.gz"
    options = (
        "--mask",
        mask,
        "--model",
        bundle_folder,
        "--template",
        SMALL,
        "--omp-nthreads",
        1,
        "--skull-strip",
        "none",
    )
    call = (dataset / f"{STEM}_T1w.nii.gz", tmp_path / "out.nii", *options)
    assert main([str(word) for word in call]) == 0
    made = nib.load(tmp_path / "out.nii").get_fdata(dtype=np.float32)
    np.testing.assert_array_equal(made, voxels(results, "sub-01"))
    record = json.loads((tmp_path / "out.json").read_text())
    assert record["Sources"] == [call[0].as_uri(), mask.as_uri()]
    assert record["BrainExtraction"] == f"mask {mask.as_uri()}"
    assert main([str(word) for word in (call[0], mask, *options)]) == 64


def test_a_mask_of_another_place_fails_its_image_alone(
    dataset: Path, masks: Path, tmp_path: Path, imunity: Callable[..., int], capsys: pytest.CaptureFixture
) -> None:
    mask = nib.load(masks / f"{STEM}_desc-brain_mask.nii.gz")
    moved = mask.affine.copy()
    moved[2, 3] += 120
    path = tmp_path / "moved" / f"{STEM}_desc-brain_mask.nii.gz"
    path.parent.mkdir(parents=True)
    nib.Nifti1Image(np.asarray(mask.dataobj), moved).to_filename(path)
    out = tmp_path / "out"
    assert imunity(dataset, out, "--omp-nthreads", 1, "--derivatives", tmp_path / "moved") == 1
    (crash,) = (out / "logs").glob("crash-*")
    first = json.loads(crash.read_text().splitlines()[0])
    assert first["code"] == 65
    assert first["message"].startswith(f"bids:moved:{STEM}_desc-brain_mask.nii.gz: only ")
    assert sidecar(out, "sub-02").is_file() and not sidecar(out, "sub-01").exists()


def test_folders_that_are_none(dataset: Path, masks: Path, tmp_path: Path, imunity: Callable[..., int], capsys) -> None:
    assert imunity(dataset, tmp_path / "o", "--derivatives", tmp_path / "absent") == 66
    assert imunity(dataset, tmp_path / "o", "--derivatives", f"raw={masks}") == 64
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("imunity: ")]
    assert len(errors) == 2


def test_a_name_that_meant_another_folder_in_this_output(
    dataset: Path, results: Path, tmp_path: Path, imunity: Callable[..., int], capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "prep").mkdir()
    assert imunity(dataset, results, "--reports-only", "--derivatives", tmp_path / "prep") == 64
    assert "prep: in this output that is the name of" in capsys.readouterr().err
