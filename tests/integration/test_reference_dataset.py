"""References of another dataset: looked up there, named by a link, and never mixed up with the study's own persons."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from imunity_bids.hashes import sha256
from tests.integration.conftest import told, voxels, write


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, make_bids: Callable) -> Path:
    return make_bids(tmp_path_factory.mktemp("study") / "bids", {"sub-01": 1.0})


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory, make_bids: Callable) -> Path:
    """Two persons of another study, called as ours are; the first moved to another scanner. One scan is empty."""
    scans = {"sub-01_ses-1": 0.7, "sub-01_ses-2": 1.4, "sub-02_ses-1": 1.3}
    folder = make_bids(tmp_path_factory.mktemp("elsewhere") / "pool", scans)
    (folder / "participants.tsv").write_text("participant_id\tscanner\nsub-01\tA\nsub-02\tB\nsub-03\tC\n")
    (folder / "sub-01" / "sub-01_sessions.tsv").write_text("session_id\tscanner\nses-1\tA\nses-2\tB\n")
    write(folder, "sub-03_ses-1", nib.Nifti1Image(np.zeros((40, 40, 40), np.int16), 3 * np.eye(4)))
    return folder


@pytest.fixture(scope="module")
def results(dataset: Path, other: Path, tmp_path_factory: pytest.TempPathFactory, imunity: Callable[..., int]) -> Path:
    out = tmp_path_factory.mktemp("out")
    references = ("--reference", "sub-01_ses-1", "--reference", "site:B", "--site-column", "scanner")
    assert imunity(dataset, out, "--reference-dataset", other, *references) == 0
    return out


def test_the_sidecar_names_the_scans_of_the_other_dataset(results: Path, other: Path) -> None:
    person, site = (told(results, "sub-01", d)["Harmonization"]["Reference"] for d in ("harmonized", "harmonized+B"))
    anat = "sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz"
    assert person["scans"] == [{"Scan": f"bids:pool:{anat}", "SHA256": sha256(other / anat)}]
    assert [scan["Scan"].rpartition("/")[2] for scan in site["scans"]] == [
        "sub-01_ses-2_T1w.nii.gz",  # on scanner B in that session
        "sub-02_ses-1_T1w.nii.gz",
    ]
    assert f"bids:pool:{anat}" in told(results, "sub-01")["Sources"]
    description = json.loads((results / "dataset_description.json").read_text())
    assert description["DatasetLinks"]["pool"] == other.as_uri()
    assert not np.array_equal(voxels(results, "sub-01"), voxels(results, "sub-01", "harmonized+B"))


def test_only_the_study_is_harmonized_and_the_validator_has_nothing_to_say(results: Path) -> None:
    assert [path.name for path in results.glob("sub-*") if path.is_dir()] == ["sub-01"]
    validator = Path(sys.executable).with_name("bids-validator-deno")
    done = subprocess.run([validator, "--json", results], capture_output=True, text=True)
    assert json.loads(done.stdout)["issues"]["issues"] == []


def test_a_reference_that_fails_is_not_taken_for_the_study_s_person(
    dataset: Path, other: Path, tmp_path: Path, imunity: Callable[..., int], caplog: pytest.LogCaptureFixture
) -> None:
    call = ("--reference-dataset", f"x={other}", "--reference", "sub-03")
    assert imunity(dataset, tmp_path, *call) == 65
    assert "its reference sub03 failed (sub-03_ses-1_T1w.nii.gz): every voxel is zero" in caplog.text
    assert [path.name.partition("-x-")[2] for path in (tmp_path / "logs").glob("crash-*-x-*")] == ["sub-03_ses-1.txt"]


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--reference", "sub-77"), 18, "no T1w image for participant 77"),
        ((), 64, "nothing is looked up in it"),
        (("--reference", "site:B"), 64, "no column site"),
        (("--reference", "site:D", "--site-column", "scanner"), 18, "there are: ['A', 'B', 'C']"),
    ],
)
def test_what_the_other_dataset_does_not_have(
    dataset: Path, other: Path, tmp_path: Path, imunity: Callable[..., int], capsys, options, code: int, words: str
) -> None:
    assert imunity(dataset, tmp_path / "out", "--reference-dataset", other, *options) == code
    assert words in capsys.readouterr().err


def test_what_is_no_dataset_of_references(
    dataset: Path, other: Path, tmp_path: Path, imunity: Callable[..., int], capsys
) -> None:
    (tmp_path / "empty").mkdir()
    call = ("--reference", "sub-01")
    assert imunity(dataset, tmp_path / "out", *call, "--reference-dataset", tmp_path / "empty") == 16
    assert imunity(dataset, tmp_path / "out", *call, "--reference-dataset", tmp_path / "absent") == 66
    assert imunity(dataset, other / "out", *call, "--reference-dataset", other) == 64
    assert f"is in --reference-dataset {other}" in capsys.readouterr().err
    assert not (other / "out").exists()


def test_who_is_left_out(
    dataset: Path, other: Path, tmp_path: Path, imunity: Callable[..., int], capsys: pytest.CaptureFixture
) -> None:
    """The own persons alone; and out of the mean of a site."""
    (tmp_path / "who.txt").write_text("sub-02 03")
    assert imunity(other, tmp_path, "--exclude-participant-label", f"@{tmp_path / 'who.txt'}", "--dry-run") == 0
    assert "sub-02" not in (said := capsys.readouterr().out)
    assert said.count("\nrun ") == 2
    assert imunity(dataset, tmp_path, "--exclude-participant-label", "01", "--dry-run") == 18
    site = ("--reference", "site:A", "--site-column", "scanner", "--dry-run")
    assert imunity(other, tmp_path, *site) == 0
    assert imunity(other, tmp_path, *site, "--exclude_participant_label", "sub-01") == 18
    assert "there are: ['B', 'C']" in capsys.readouterr().err
