"""Two scans of one person share mask and affine; the known motion between them comes out; who fails is named."""

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
from scipy.spatial.transform import Rotation

from imunity_bids.image.ants_bridge import read_motion
from tests.integration.conftest import SMALL, describe, sidecar, told, voxels, with_gamma, write

TURNED = nib.affines.from_matvec(Rotation.from_euler("xyz", (5, -4, 6), degrees=True).as_matrix(), (4.0, -3.0, 2.0))
VISITS = ("sub-01_ses-1", "sub-01_ses-2")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, small_brain: nib.Nifti1Image) -> Path:
    """A person who turned the head and was seen in another contrast; one with one scan; one with an empty one."""
    folder = tmp_path_factory.mktemp("visits") / "bids"
    turned = with_gamma(small_brain, 0.9)
    write(folder, VISITS[0], small_brain)
    write(folder, VISITS[1], nib.Nifti1Image(turned.dataobj, TURNED @ small_brain.affine))
    write(folder, "sub-02_ses-1", small_brain)
    write(folder, "sub-03_ses-1", small_brain)
    write(folder, "sub-03_ses-2", nib.Nifti1Image(np.zeros((40, 40, 40), np.int16), 3 * np.eye(4)))
    describe(folder)
    return folder


@pytest.fixture(scope="module")
def results(dataset: Path, tmp_path_factory: pytest.TempPathFactory, imunity: Callable[..., int]) -> Path:
    out = tmp_path_factory.mktemp("out")
    assert imunity(dataset, out, "--longitudinal", "--exclude-participant-label", "03") == 0
    return out


def anat(out: Path, name: str, ending: str) -> Path:
    return sidecar(out, name).with_name(f"{name}_{ending}")


def test_one_mask_and_one_affine(results: Path) -> None:
    masks = [
        nib.load(anat(results, name, f"space-{SMALL}_res-1_desc-brain_mask.nii.gz")).get_fdata() for name in VISITS
    ]
    np.testing.assert_array_equal(*masks)
    first, second = (read_motion(anat(results, name, f"from-T1w_to-{SMALL}_mode-image_xfm.mat")) for name in VISITS)
    # From the first scan to the second, through the template: the motion, without a trace of the affine.
    between = second @ np.linalg.inv(first)
    corners = np.array([[x, y, z, 1.0] for x in (-60, 60) for y in (-70, 60) for z in (-40, 70)]).T
    assert np.abs((between - TURNED) @ corners).max() < 0.3  # mm: a tenth of a voxel
    np.testing.assert_allclose(between[:3, :3] @ between[:3, :3].T, np.eye(3), atol=1e-4)


def test_masks_on_the_scans_are_the_shared_one(results: Path) -> None:
    volumes = [nib.load(anat(results, name, "desc-brain_mask.nii.gz")).get_fdata().sum() * 27 / 1000 for name in VISITS]
    assert volumes[0] == pytest.approx(volumes[1], rel=0.005)
    for name, volume in zip(VISITS, volumes, strict=True):
        # zooms of the simulated brain are 3 mm times its scale
        zooms = nib.load(anat(results, name, "desc-brain_mask.nii.gz")).header.get_zooms()
        assert told(results, name)["QualityControl"]["brain_volume_ml"] == pytest.approx(
            volume / 27 * np.prod(zooms), rel=1e-3
        )


def test_sidecars_name_the_other_scan_and_one_alone_is_as_ever(results: Path) -> None:
    first, second, alone = (told(results, name)["Sources"] for name in (*VISITS, "sub-02_ses-1"))
    assert "bids:raw:sub-01/ses-2/anat/sub-01_ses-2_T1w.nii.gz" in first
    assert "bids:raw:sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz" in second
    assert len(alone) == 1
    shared = [told(results, name)["Harmonization"].get("SharedSpace") for name in (*VISITS, "sub-02_ses-1")]
    assert [uri.rpartition("/")[2] for uri in shared[0]] == [f"{name}_T1w.nii.gz" for name in VISITS]
    assert shared[1:] == [shared[0], None]
    assert "midway between them" in (results / "logs" / "CITATION.md").read_text()


def test_the_page_shows_them_side_by_side(results: Path) -> None:
    page = (results / "sub-01_longitudinal.html").read_text()
    assert page.count("<img") == 2
    assert all(f'href="{name}.html"' in page for name in VISITS)
    assert not (results / "sub-02_longitudinal.html").exists()
    validator = Path(sys.executable).with_name("bids-validator-deno")
    done = subprocess.run([validator, "--json", results], capture_output=True, text=True)
    assert json.loads(done.stdout)["issues"]["issues"] == []


def test_a_scan_is_resumed_alone_and_done_otherwise_without_the_option(
    dataset: Path, results: Path, imunity: Callable[..., int], capsys: pytest.CaptureFixture
) -> None:
    one = ("--participant-label", "01")

    def listed(*options: str) -> list[str]:
        capsys.readouterr()
        assert imunity(dataset, results, *one, *options, "--dry-run") == 0
        return [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]]

    assert listed("--longitudinal") == ["done", "done"]
    assert listed() == ["run", "run"]
    assert listed("--longitudinal", "--session-label", "1") == ["run"]  # alone, there is nothing to share
    before = {name: sidecar(results, name).with_suffix(".nii.gz").stat().st_mtime_ns for name in VISITS}
    sidecar(results, VISITS[1]).unlink()
    assert imunity(dataset, results, *one, "--longitudinal") == 0
    after = {name: sidecar(results, name).with_suffix(".nii.gz").stat().st_mtime_ns for name in VISITS}
    assert [after[name] > before[name] for name in VISITS] == [False, True]
    assert listed("--longitudinal") == ["done", "done"]


def test_a_scan_that_fails_takes_the_person_along_and_is_named(
    dataset: Path, tmp_path: Path, imunity: Callable[..., int], caplog: pytest.LogCaptureFixture
) -> None:
    assert imunity(dataset, tmp_path, "--longitudinal", "--participant-label", "03") == 65
    assert "--longitudinal: sub-03_ses-2_T1w.nii.gz failed: every voxel is zero" in caplog.text
    assert "leave it out (--session-label" in caplog.text
    assert not list(tmp_path.rglob("*harmonized*"))
    assert imunity(dataset, tmp_path, "--longitudinal", "--participant-label", "03", "--session-label", "1") == 0


def test_scans_of_one_scanner_have_one_field_left(
    small_brain: nib.Nifti1Image, tmp_path: Path, imunity: Callable[..., int]
) -> None:
    """Said in the sidecars, and part of the field that is saved; scans of which nothing is known keep their own."""
    across = np.linspace(-1, 1, small_brain.shape[1])[:, None]
    fields = [np.exp(0.2 * across**3), np.exp(-0.2 * across)]
    unlike = {}
    for known in (True, False):
        folder, out = tmp_path / f"bids{known}", tmp_path / f"out{known}"
        for name, field in zip(VISITS, fields, strict=True):
            data = (np.asarray(small_brain.dataobj) * field).astype(np.int16)
            path = write(folder, name, nib.Nifti1Image(data, small_brain.affine))
            if known:
                path.with_name(f"{name}_T1w.json").write_text('{"ManufacturersModelName": "A"}')
        describe(folder)
        assert imunity(folder, out, "--longitudinal", "--save-bias-field") == 0
        first, second = (voxels(out, name, "preproc") for name in VISITS)
        tissue = (first > 0.35) & (second > 0.35)
        ratio = np.where(tissue, np.log(np.maximum(second, 0.1) / np.maximum(first, 0.1)), 0)
        share = np.maximum(ndimage.gaussian_filter(tissue.astype(float), 2), 0.1)
        unlike[known] = (ndimage.gaussian_filter(ratio, 2) / share)[tissue].std()
        for name, other in zip(VISITS, reversed(VISITS), strict=True):
            said = told(out, name)
            shared = [uri.rpartition("/")[2] for uri in said["Harmonization"].get("SharedField", [])]
            assert shared == [f"{other}_T1w.nii.gz"] * known
            assert ("mean field of the person's scans" in said["BiasFieldCorrection"]) == known
            preproc, field = (
                nib.load(anat(out, name, f"desc-{what}.nii.gz")).get_fdata()
                for what in ("preproc_T1w", "biasfield_T1w")
            )
            raw = nib.load(folder / "sub-01" / name[7:] / "anat" / f"{name}_T1w.nii.gz").get_fdata()
            np.testing.assert_allclose(preproc * field, raw, rtol=1e-3, atol=0.5)
    assert unlike[True] < 0.5 * unlike[False]
