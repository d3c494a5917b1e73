"""DESIGN, section 5: each hard input ends in a result or in a clear line and a code, and never stops its neighbours."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from imunity_bids.image.template import BUILT_IN
from imunity_bids.plan.crash import read_crash
from tests.integration.conftest import describe

# name: (what the failure says, its code), or None where a result is expected
OUTCOMES: dict[str, tuple[str, int] | None] = {
    "sub-good": None,
    "sub-two_run-1": None,
    "sub-two_run-2": None,
    "sub-series4d": None,
    "sub-nan": None,
    "sub-slope": None,
    "sub-bytes": None,
    "sub-double": None,
    "sub-oblique": None,
    "sub-noform": None,
    "sub-lefthanded": None,
    "sub-thick": None,
    "sub-negative": None,
    "sub-badjson": None,
    "sub-link": None,
    "sub-plus_acq-a+b": None,
    "sub-truncated": ("truncated", 65),
    "sub-zero": ("every voxel is zero", 65),
    "sub-constant": ("constant", 65),
    "sub-text": ("not a NIfTI", 65),
    "sub-tiny": ("not a 3D head", 65),
    "sub-broken": ("does not exist", 66),
}


def write(folder: Path, name: str, image: nib.Nifti1Image | bytes) -> Path:
    anat = folder / name.split("_")[0] / "anat"
    anat.mkdir(parents=True, exist_ok=True)
    path = anat / f"{name}_T1w.nii.gz"
    if isinstance(image, bytes):
        path.write_bytes(image)
    else:
        image.to_filename(path)
    return path


@pytest.fixture(scope="module")
def hard(tmp_path_factory: pytest.TempPathFactory, small_brain: nib.Nifti1Image) -> Path:
    folder = tmp_path_factory.mktemp("hard")
    data, affine = np.asarray(small_brain.dataobj, dtype=np.float32), small_brain.affine
    plain = nib.Nifti1Image(data.astype(np.int16), affine)
    good = write(folder, "sub-good", plain)
    write(folder, "sub-two_run-1", plain)
    write(folder, "sub-two_run-2", plain)
    write(folder, "sub-series4d", nib.Nifti1Image(np.stack([data, data / 2], -1).astype(np.int16), affine))
    broken = data.copy()
    broken[10:12, 10, 10] = [np.nan, np.inf]
    write(folder, "sub-nan", nib.Nifti1Image(broken, affine))
    scaled = nib.Nifti1Image((data * 3).astype(np.int16), affine)
    scaled.header.set_slope_inter(1 / 3, 0)
    write(folder, "sub-slope", scaled)
    write(folder, "sub-bytes", nib.Nifti1Image((data / data.max() * 255).astype(np.uint8), affine))
    write(folder, "sub-double", nib.Nifti1Image(data.astype(np.float64), affine))
    turn = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.2, 0.15, -0.1), [5, 10, -5])
    write(folder, "sub-oblique", nib.Nifti1Image(data, turn @ affine))
    noform = nib.Nifti1Image(data, None)  # an affine would come back as sform when it is saved
    noform.header.set_zooms((3.0, 3.0, 3.0))
    write(folder, "sub-noform", noform)
    write(folder, "sub-lefthanded", nib.Nifti1Image(data[::-1], affine @ np.diag([-1.0, 1, 1, 1])))
    thick = data[:, :, ::2]
    write(folder, "sub-thick", nib.Nifti1Image(thick, affine @ np.diag([1.0, 1, 2, 1])))
    write(folder, "sub-negative", nib.Nifti1Image(data - 20 * (data > 0), affine))
    write(folder, "sub-badjson", plain).with_name("sub-badjson_T1w.json").write_text("{not json")
    (folder / "sub-link" / "anat").mkdir(parents=True)
    (folder / "sub-link" / "anat" / "sub-link_T1w.nii.gz").symlink_to(good)
    write(folder, "sub-plus_acq-a+b", plain)
    write(folder, "sub-truncated", good.read_bytes()[: good.stat().st_size // 2])
    write(folder, "sub-zero", nib.Nifti1Image(np.zeros_like(data), affine))
    write(folder, "sub-constant", nib.Nifti1Image(np.full_like(data, 7), affine))
    write(folder, "sub-text", b"this is no image")
    write(folder, "sub-tiny", nib.Nifti1Image(data[:4, :4, :4], affine))
    (folder / "sub-broken" / "anat").mkdir(parents=True)
    (folder / "sub-broken" / "anat" / "sub-broken_T1w.nii.gz").symlink_to(folder / "absent.nii.gz")
    (folder / "sub-none" / "anat").mkdir(parents=True)
    describe(folder)
    return folder


@pytest.fixture(scope="module")
def outcome(hard: Path, tmp_path_factory: pytest.TempPathFactory, imunity: Callable[..., int]) -> Path:
    out = tmp_path_factory.mktemp("hard-out")
    assert imunity(hard, out) == 1
    return out


def sidecar(out: Path, name: str) -> Path:
    return out / name.split("_")[0] / "anat" / f"{name}_space-{BUILT_IN}_res-1_desc-harmonized_T1w.json"


@pytest.mark.parametrize("name", [name for name, failure in OUTCOMES.items() if failure is None])
def test_a_hard_input_that_has_a_result(outcome: Path, name: str) -> None:
    quality = json.loads(sidecar(outcome, name).read_text())["QualityControl"]
    # without a header only the template's position is unknown; everything else must be found where it is
    if name != "sub-noform":
        assert quality["template_dice"] > 0.85, quality
    assert quality["verdict"] != "failed" or quality["reason"]


@pytest.mark.parametrize(("name", "failure"), [(n, f) for n, f in OUTCOMES.items() if f is not None])
def test_a_hard_input_that_fails_alone(outcome: Path, name: str, failure: tuple[str, int]) -> None:
    assert not sidecar(outcome, name).exists()
    crash = read_crash(next(outcome.glob(f"logs/crash-*-{name}.txt")))
    assert failure[0] in crash["message"]
    assert crash["code"] == failure[1]
    report = (outcome / f"{name.split('_')[0]}.html").read_text()
    assert "failed" in report
    assert failure[0] in report


def test_what_was_mended_is_said(outcome: Path) -> None:
    words = {"sub-series4d": "2 volumes", "sub-nan": "NaN", "sub-noform": "no sform", "sub-negative": "negative"}
    for name, said in words.items():
        assert any(said in fix for fix in json.loads(sidecar(outcome, name).read_text())["HeaderFixes"])


def test_the_same_brain_in_other_clothes_is_the_same_brain(outcome: Path) -> None:
    """Type, scaling, handedness and links change nothing that matters: volumes within one per cent."""
    volume = {
        name: json.loads(sidecar(outcome, name).read_text())["QualityControl"]["brain_volume_ml"]
        for name in ("sub-good", "sub-slope", "sub-double", "sub-lefthanded", "sub-link", "sub-series4d")
    }
    for name, value in volume.items():
        assert value == pytest.approx(volume["sub-good"], rel=0.01), name


def test_the_code_of_a_single_failure_is_its_own_and_nothing_lies_about(
    hard: Path, tmp_path: Path, imunity: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, out = tmp_path / "here", tmp_path / "out"
    here.mkdir()
    monkeypatch.chdir(here)
    assert imunity(hard, out, "--participant-label", "truncated", "--nprocs", 1) == 65
    assert imunity(hard, out, "--participant-label", "broken") == 66
    assert imunity(hard, out, "--participant-label", "none") == 18
    assert list(here.iterdir()) == []  # Nipype's own crash files: in a container this folder cannot be written
