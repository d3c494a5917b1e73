"""DESIGN, section 5: each hard input ends in a result or in a clear line and a code, and never stops its neighbours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from imunity_bids.errors import DataUnusable, InputMissing
from imunity_bids.plan.crash import read_crash
from tests.integration.conftest import (
    SMALLER,
    STRIPPED,
    WHOLE,
    describe,
    seen_by,
    sidecar,
    told,
    voxels,
    with_gamma,
    write,
)

# name: the verdict, or (what the failure says, its code)
BRAINS: dict[str, str | tuple[str, int]] = {
    "sub-good": "ok",
    "sub-two_run-1": "ok",
    "sub-two_run-2": "ok",
    "sub-series4d": "ok",
    "sub-nan": "ok",
    "sub-slope": "ok",
    "sub-bytes": "ok",
    "sub-double": "ok",
    "sub-oblique": "ok",
    "sub-noform": "ok",
    "sub-lefthanded": "ok",
    "sub-thick": "check",
    "sub-negative": "ok",
    "sub-zscored": "ok",
    "sub-half": "failed",
    "sub-badjson": "ok",
    "sub-link": "ok",
    "sub-plus_acq-a+b": "ok",
    "sub-truncated": ("truncated", 65),
    "sub-zero": ("every voxel is zero", 65),
    "sub-constant": ("constant", 65),
    "sub-text": ("not a NIfTI", 65),
    "sub-tiny": ("not a 3D head", 65),
    "sub-broken": ("does not exist", 66),
}
# heads with all that is around the brain, by the shipped network
HEADS = {"sub-whole": "ok", "sub-defaced": "ok", "sub-gadolinium": "ok", "sub-child": "check", "sub-zscored": "ok"}
UNKNOWN_PLACE = ("sub-noform", "sub-half")  # no header, or not the whole brain: the template cannot be met


@pytest.fixture(scope="module")
def hard(
    tmp_path_factory: pytest.TempPathFactory, small_brain: nib.Nifti1Image, head_maps: tuple[np.ndarray, np.ndarray]
) -> Path:
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
    noform.header.set_zooms(small_brain.header.get_zooms())
    write(folder, "sub-noform", noform)
    write(folder, "sub-lefthanded", nib.Nifti1Image(data[::-1], affine @ np.diag([-1.0, 1, 1, 1])))
    thick = data[:, :, ::2]
    write(folder, "sub-thick", nib.Nifti1Image(thick, affine @ np.diag([1.0, 1, 2, 1])))
    write(folder, "sub-negative", nib.Nifti1Image(data - 20 * (data > 0), affine))
    write(folder, "sub-zscored", zscored(plain))
    write(folder, "sub-half", half_millimetre(head_maps))
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


def zscored(image: nib.Nifti1Image) -> nib.Nifti1Image:
    """Mean 0, standard deviation 1, over the whole image."""
    data = np.asarray(image.dataobj, dtype=np.float32)
    return nib.Nifti1Image((data - data.mean()) / data.std(), image.affine)


def half_millimetre(maps: tuple[np.ndarray, np.ndarray]) -> nib.Nifti1Image:
    """0.5 mm voxels, of a slab of 70 mm: a whole head of them would take minutes."""
    tissues, affine = maps
    corner = np.array(tissues.shape[1:]) // 2 - 38
    slab = tissues[(slice(None), *(slice(start, start + 76) for start in corner))]
    return seen_by(replace(STRIPPED, spacing_mm=(0.5, 0.5, 0.5)), (slab, nib.affines.from_matvec(affine[:3, :3])))


def defaced(head: nib.Nifti1Image) -> nib.Nifti1Image:
    """Nothing in front of and below the brain, as pydeface leaves it."""
    data = np.array(head.dataobj)
    _, y, z = nib.affines.apply_affine(head.affine, np.moveaxis(np.indices(data.shape), 0, -1)).transpose(3, 0, 1, 2)
    data[(z < 0.8 * (y - 80)) | ((y > 40) & (z < -35))] = 0
    return nib.Nifti1Image(data, head.affine)


def with_gadolinium(maps: tuple[np.ndarray, np.ndarray]) -> nib.Nifti1Image:
    """Sinus and vessels twice as bright as white matter."""
    tissues, affine = maps
    brain = tissues[:3].sum(0) > 0.5
    middle = np.abs(np.arange(brain.shape[0]) - brain.shape[0] // 2)[:, None, None] <= 4
    around = ndimage.distance_transform_edt(~brain)
    upper = np.arange(brain.shape[2]) > np.argwhere(brain)[:, 2].mean()
    sinus = middle & (around > 0) & (around <= 5) & upper
    winding = np.abs(ndimage.gaussian_filter(np.random.default_rng(0).standard_normal(brain.shape), 4)) < 0.002
    vessels = sinus | (winding & (tissues[2] > 0.5))
    both = np.concatenate([tissues * ~vessels, vessels[None].astype(np.float32)])
    return seen_by(replace(WHOLE, signal=(*WHOLE.signal, 2.0)), (both, affine))


@pytest.fixture(scope="module")
def heads(
    tmp_path_factory: pytest.TempPathFactory, small_head: nib.Nifti1Image, head_maps: tuple[np.ndarray, np.ndarray]
) -> Path:
    folder = tmp_path_factory.mktemp("heads")
    write(folder, "sub-whole", small_head)
    write(folder, "sub-defaced", defaced(small_head))
    write(folder, "sub-gadolinium", with_gadolinium(head_maps))
    write(folder, "sub-child", seen_by(WHOLE, head_maps, scale=0.75 * SMALLER))
    write(folder, "sub-zscored", zscored(small_head))
    describe(folder)
    return folder


@pytest.fixture(scope="module")
def outcome(hard: Path, tmp_path_factory: pytest.TempPathFactory, imunity: Callable[..., int]) -> Path:
    out = tmp_path_factory.mktemp("hard-out")
    assert imunity(hard, out) == 1
    return out


@pytest.fixture(scope="module")
def of_heads(heads: Path, tmp_path_factory: pytest.TempPathFactory, imunity: Callable[..., int]) -> Path:
    out = tmp_path_factory.mktemp("heads-out")
    assert imunity(heads, out, "--skull-strip", "auto") == 0
    return out


@pytest.mark.parametrize(("name", "verdict"), [(n, v) for n, v in BRAINS.items() if isinstance(v, str)])
def test_a_hard_input_that_has_a_result(outcome: Path, name: str, verdict: str) -> None:
    quality = told(outcome, name)["QualityControl"]
    if name not in UNKNOWN_PLACE:
        assert quality["template_dice"] > 0.85, quality
    assert quality["verdict"] == verdict, quality
    assert bool(quality["reason"]) == (verdict != "ok")
    assert np.isfinite(voxels(outcome, name)).all()


@pytest.mark.parametrize(("name", "failure"), [(n, f) for n, f in BRAINS.items() if not isinstance(f, str)])
def test_a_hard_input_that_fails_alone(outcome: Path, name: str, failure: tuple[str, int]) -> None:
    assert not sidecar(outcome, name).exists()
    crash = read_crash(next(outcome.glob(f"logs/crash-*-{name}.txt")))
    assert failure[0] in crash["message"]
    assert crash["code"] == failure[1]
    report = (outcome / f"{name.split('_')[0]}.html").read_text()
    assert "failed" in report
    assert failure[0] in report


@pytest.mark.parametrize(("name", "verdict"), HEADS.items())
def test_a_hard_head(of_heads: Path, name: str, verdict: str) -> None:
    found = told(of_heads, name)
    quality = found["QualityControl"]
    assert found["BrainExtraction"] == "network"
    assert quality["template_dice"] > 0.88, quality
    assert quality["verdict"] == verdict, quality
    whole = told(of_heads, "sub-whole")["QualityControl"]["brain_volume_ml"]
    share, tolerance = (0.75**3, 0.1) if name == "sub-child" else (1.0, 0.05)  # a rim of 2 mm is more of a small brain
    assert quality["brain_volume_ml"] == pytest.approx(share * whole, rel=tolerance)


def test_what_was_mended_is_said(outcome: Path) -> None:
    words = {"sub-series4d": "2 volumes", "sub-nan": "NaN", "sub-noform": "no sform", "sub-negative": "negative"}
    for name, said in words.items():
        assert any(said in fix for fix in told(outcome, name)["HeaderFixes"])


def test_the_same_brain_in_other_clothes_is_the_same_brain(outcome: Path) -> None:
    """Type, scaling, handedness and links change nothing that matters: volumes within one per cent."""
    names = ("sub-good", "sub-slope", "sub-double", "sub-lefthanded", "sub-link", "sub-series4d", "sub-zscored")
    volume = {name: told(outcome, name)["QualityControl"]["brain_volume_ml"] for name in names}
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


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, small_brain: nib.Nifti1Image) -> Path:
    """Two participants that lack nothing, and one that is truncated."""
    folder = tmp_path_factory.mktemp("pair")
    good = write(folder, "sub-good", small_brain)
    write(folder, "sub-other", with_gamma(small_brain, 1.3))
    write(folder, "sub-bad", good.read_bytes()[: good.stat().st_size // 2])
    describe(folder)
    return folder


@pytest.mark.parametrize("kind", ["file", "participant"])
def test_a_reference_that_fails_is_named_and_the_other_reference_is_served(
    pair: Path, tmp_path: Path, imunity: Callable[..., int], caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    bad = pair / "sub-bad" / "anat" / "sub-bad_T1w.nii.gz"
    reference = {"file": bad, "participant": "sub-bad"}[kind]
    options = ("--participant-label", "good", "--reference", "default", "--reference", reference)
    code = imunity(pair, tmp_path, *options)
    assert told(tmp_path, "sub-good")["Harmonization"]["Reference"]["label"] == "default"
    assert not list(tmp_path.rglob("*harmonized+*.nii.gz"))
    said = "\n".join(record.getMessage() for record in caplog.records if record.levelname == "ERROR")
    assert (code, str(bad) in said, "truncated" in said) == (DataUnusable.code, True, True), said


def test_a_scan_that_spoils_the_mean_of_its_site_is_named_and_can_be_left_out(
    pair: Path, tmp_path: Path, imunity: Callable[..., int], caplog: pytest.LogCaptureFixture
) -> None:
    options = ("--participant-label", "good", "--curve", "site")
    assert imunity(pair, tmp_path, *options) == DataUnusable.code
    said = "\n".join(record.getMessage() for record in caplog.records if record.levelname == "ERROR")
    assert "--curve site: sub-bad_T1w.nii.gz failed" in said and "--exclude-participant-label" in said, said
    assert imunity(pair, tmp_path, *options, "--exclude-participant-label", "bad") == 0
    scans = told(tmp_path, "sub-good")["Harmonization"]["SiteCurve"]["Scans"]
    assert [scan["Scan"].split("/")[-1] for scan in scans] == ["sub-good_T1w.nii.gz", "sub-other_T1w.nii.gz"]


def test_nii_beside_nii_gz_stops_nobody_else(
    pair: Path, tmp_path: Path, small_brain: nib.Nifti1Image, imunity: Callable[..., int]
) -> None:
    """Two files of one name: either has a result, or a line that names them; the neighbour has one."""
    folder, out = tmp_path / "bids", tmp_path / "out"
    write(folder, "sub-both", small_brain)
    write(folder, "sub-both", small_brain, ".nii")
    write(folder, "sub-other", with_gamma(small_brain, 1.3))
    describe(folder)
    code = imunity(folder, out)
    assert sidecar(out, "sub-other").is_file()
    if not sidecar(out, "sub-both").is_file():
        assert code == 1
        assert "sub-both_T1w.nii" in next(out.glob("logs/crash-*sub-both*.txt")).read_text()


def test_a_reference_that_is_not_there_is_code_66_at_once(
    pair: Path, tmp_path: Path, imunity: Callable[..., int]
) -> None:
    assert imunity(pair, tmp_path, "--reference", tmp_path / "absent.nii.gz") == InputMissing.code
    assert not list(tmp_path.rglob("*.nii.gz"))
