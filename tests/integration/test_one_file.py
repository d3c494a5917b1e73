"""One file without a dataset: the same image as the participant level's, and clear ends where there is none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import imunity_bids
from imunity_bids.cli.harmonize import main
from imunity_bids.errors import DataUnusable, InputMissing, Usage
from tests.integration.conftest import SMALL, sidecar, told, voxels, with_gamma

HASHES = ("ParametersHash", "InputSHA256", "ReferenceQuantiles", "WhiteStripe")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, make_bids: Callable) -> Path:
    return make_bids(tmp_path_factory.mktemp("one") / "bids", {"sub-01": 1.0})


@pytest.fixture(scope="module")
def scan(dataset: Path) -> Path:
    return dataset / "sub-01" / "anat" / "sub-01_T1w.nii.gz"


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory, small_brain: nib.Nifti1Image) -> Path:
    """A T1w file of another contrast."""
    path = tmp_path_factory.mktemp("reference") / "other.nii.gz"
    with_gamma(small_brain, 0.7).to_filename(path)
    return path


@pytest.fixture(scope="module")
def results(dataset: Path, other: Path, tmp_path_factory: pytest.TempPathFactory, imunity: Callable[..., int]) -> Path:
    """The participant level on the same scan, to the bundle's reference and to a file."""
    out = tmp_path_factory.mktemp("level")
    options = ("--output-spaces", "template", "T1w", "--omp-nthreads", 1, "--reference", "default")
    assert imunity(dataset, out, *options, "--reference", other) == 0
    return out


@pytest.fixture
def one(bundle_folder: Path) -> Callable[..., int]:
    def run(*arguments: object) -> int:
        fixed = ("--model", bundle_folder, "--template", SMALL, "--skull-strip", "none", "--omp-nthreads", 1)
        return main([str(a) for a in (*arguments, *fixed)])

    return run


def test_the_image_is_that_of_the_participant_level(
    scan: Path, results: Path, other: Path, tmp_path: Path, one: Callable[..., int]
) -> None:
    before = scan.read_bytes()
    target = tmp_path / "new folder" / "out.nii.gz"
    assert one(scan, target) == 0
    np.testing.assert_array_equal(nib.load(target).get_fdata(dtype=np.float32), voxels(results, "sub-01"))
    assert (
        nib.load(target).affine.tolist() == nib.load(sidecar(results, "sub-01").with_suffix(".nii.gz")).affine.tolist()
    )
    made, level = json.loads(target.with_name("out.json").read_text()), told(results, "sub-01")
    assert made["QualityControl"] == level["QualityControl"]
    assert made["Sources"] == [scan.as_uri()]
    assert made["Harmonization"].keys() == level["Harmonization"].keys()
    assert {key for key in HASHES if made["Harmonization"][key] != level["Harmonization"][key]} <= {"ParametersHash"}
    assert scan.read_bytes() == before
    assert sorted(path.name for path in target.parent.iterdir()) == ["out.json", "out.nii.gz"]

    assert one(scan, target, "--reference", other) == 0
    expected = voxels(results, "sub-01", "harmonized+other")
    np.testing.assert_array_equal(nib.load(target).get_fdata(dtype=np.float32), expected)
    assert json.loads(target.with_name("out.json").read_text())["Harmonization"]["Reference"]["label"] == "other"


def test_on_the_scans_own_grid(scan: Path, results: Path, tmp_path: Path, one: Callable[..., int]) -> None:
    assert one(scan, tmp_path / "out.nii", "--output-space", "T1w", "-v") == 0
    made, level = nib.load(tmp_path / "out.nii"), nib.load(results / "sub-01/anat/sub-01_desc-harmonized_T1w.nii.gz")
    np.testing.assert_array_equal(made.get_fdata(), level.get_fdata())
    np.testing.assert_allclose(made.affine, nib.load(scan).affine, atol=1e-5)
    assert int(made.header["sform_code"]) == 1
    told_here = json.loads((tmp_path / "out.json").read_text())
    assert told_here["SpatialReference"] == scan.as_uri()
    assert "Resolution" not in told_here and told_here["Harmonization"]["Fusion"] == "median"


def test_from_python_an_image_in_memory(
    scan: Path, results: Path, bundle_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the process is left as it was: environment, folder, threads."""
    import torch

    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    torch.set_num_threads(2)
    where, before = Path.cwd(), dict(os.environ)
    try:
        made = imunity_bids.harmonize_image(
            nib.load(scan), model=bundle_folder, template=SMALL, skull_strip="none", omp_nthreads=1
        )
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    np.testing.assert_array_equal(made.image.get_fdata(dtype=np.float32), voxels(results, "sub-01"))
    assert made.uncertainty.shape == made.image.shape
    assert made.sidecar["QualityControl"] == told(results, "sub-01")["QualityControl"]
    assert (Path.cwd(), dict(os.environ)) == (where, before)
    assert threading.active_count() < 20


def test_importing_the_package_is_light_and_the_function_is_there() -> None:
    code = "import sys, imunity_bids; print([n for n in ('torch', 'numpy', 'nibabel', 'nipype') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        imunity_bids.nothing  # noqa: B018


def last_line(capsys: pytest.CaptureFixture) -> str:
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("imunity-harmonize: ")]
    assert len(lines) == 1
    return lines[0]


def test_wrong_calls_are_64(
    scan: Path, other: Path, tmp_path: Path, one: Callable[..., int], capsys: pytest.CaptureFixture
) -> None:
    assert one(scan, scan) == 64
    assert "would replace" in last_line(capsys)
    link = tmp_path / "link.nii.gz"
    link.symlink_to(scan)
    hard = tmp_path / "hard.nii.gz"
    hard.hardlink_to(scan)
    for target in (link, hard):
        assert one(scan, target) == 64
        assert "would replace" in last_line(capsys)
    assert one(scan, other, "--reference", other) == 64
    assert "would replace" in last_line(capsys)
    assert one(scan, scan.with_name("sub-01_T1w.nii")) == 64  # its JSON would be that of the scan
    assert "would replace" in last_line(capsys)
    assert one(scan, tmp_path / "out.mgz") == 64
    assert "name it .nii.gz" in last_line(capsys)
    assert one(tmp_path / "scan.dcm", tmp_path / "out.nii") == 64
    assert one(scan, tmp_path / "out.nii", "--batch-size", 0) == 64
    assert one(scan, tmp_path / "out.nii", "--device", "gpu") == 64
    assert not (tmp_path / "out.nii").exists()


def test_what_is_missing_is_66(scan: Path, tmp_path: Path, one: Callable[..., int], capsys) -> None:
    assert one(tmp_path / "absent.nii.gz", tmp_path / "out.nii") == 66
    assert f"{tmp_path / 'absent.nii.gz'} does not exist" in last_line(capsys)
    assert one(scan, tmp_path / "out.nii", "--reference", tmp_path / "no.nii") == 66
    assert "give a T1w file, or one of default" in last_line(capsys)
    assert not (tmp_path / "out.nii").exists()


def test_unusable_data_is_65_and_names_the_users_file(tmp_path: Path, one: Callable[..., int], capsys) -> None:
    empty, broken = tmp_path / "empty.nii", tmp_path / "broken.nii.gz"
    nib.Nifti1Image(np.zeros((40, 40, 40), np.float32), np.diag([4, 4, 4, 1])).to_filename(empty)
    broken.write_bytes(b"nothing")
    assert one(empty, tmp_path / "out.nii") == 65
    assert f"{empty}: every voxel is zero" in last_line(capsys)
    assert one(broken, tmp_path / "out.nii") == 65
    assert f"{broken} is truncated" in last_line(capsys)
    assert not (tmp_path / "out.nii").exists() and not (tmp_path / "out.json").exists()


def test_a_target_that_cannot_be_is_73(scan: Path, tmp_path: Path, one: Callable[..., int], capsys) -> None:
    (tmp_path / "file").touch()
    assert one(scan, tmp_path / "file" / "out.nii") == 73
    assert "cannot be created" in last_line(capsys)
    (tmp_path / "folder.nii").mkdir()
    assert one(scan, tmp_path / "folder.nii") == 73


def test_python_raises_what_the_command_reports(scan: Path, tmp_path: Path, bundle_folder: Path) -> None:
    with pytest.raises(Usage, match="unknown options nose"):
        imunity_bids.harmonize_image(scan, nose="match")
    with pytest.raises(Usage, match="output space MNI"):
        imunity_bids.harmonize_image(scan, output_space="MNI")
    with pytest.raises(InputMissing):
        imunity_bids.harmonize_image(tmp_path / "absent.nii")
    nothing = nib.Nifti1Image(np.zeros((40, 40, 40), np.float32), np.diag([4, 4, 4, 1]))
    with pytest.raises(DataUnusable, match="the scan: every voxel is zero"):
        imunity_bids.harmonize_image(nothing, model=bundle_folder, template=SMALL, skull_strip="none")
