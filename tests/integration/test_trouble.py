"""A careless user's dataset, and a kernel that kills a worker: every image's trouble stays its own, and is named."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from imunity_bids.plan.crash import read_crash
from tests.integration.conftest import SMALL

# Python runs this at every start: a worker that opens this scan is killed, as the kernel kills what is too large.
KILLER = """
import os, signal
try:
    import imunity_bids.image.conform as conform
except ImportError:
    conform = None
if conform is not None:
    read = conform.read_image
    def read_image(path):
        if "sub-killed" in str(path):
            os.kill(os.getpid(), signal.SIGKILL)
        return read(path)
    conform.read_image = read_image
"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, make_bids: Callable) -> Path:
    names = ["sub-good", "sub-killed", "sub-twin", "sub-unlike", "sub-parts_part-mag", "sub-parts_part-phase"]
    folder = make_bids(tmp_path_factory.mktemp("careless"), dict.fromkeys(names, 1.0))
    for name in ("sub-twin", "sub-unlike"):
        compressed = folder / name / "anat" / f"{name}_T1w.nii.gz"
        plain = compressed.with_suffix("")
        plain.write_bytes(gzip.decompress(compressed.read_bytes()))
    changed = nib.load(plain)
    nib.Nifti1Image(np.asarray(changed.dataobj) + 1, changed.affine).to_filename(plain)
    (folder / "participants.tsv").write_text("participant_id\tsite\nsub-good\tA\nsub-twin\tA\n")
    return folder


@pytest.fixture(scope="module")
def run(dataset: Path, bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, str]:
    """Output, exit code and messages of one run with two processes, started in the folder of the bundle's parent."""
    out, hook = tmp_path_factory.mktemp("trouble") / "out", tmp_path_factory.mktemp("hook")
    (hook / "sitecustomize.py").write_text(KILLER)
    call = [sys.executable, "-m", "imunity_bids.cli.run", str(dataset), str(out), "participant"]
    call += ["--model", bundle_folder.name, "--template", SMALL, "--skull-strip", "none", "--nprocs", "2"]
    call += ["--omp-nthreads", "1", "--reference", "default", "--reference", "site:A"]
    path = os.pathsep.join([str(hook), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        call, cwd=bundle_folder.parent, env=environment, capture_output=True, text=True, timeout=420, umask=0o027
    )
    return out, done.returncode, done.stderr


def harmonized(out: Path, name: str, description: str = "harmonized") -> Path:
    return out / name.split("_")[0] / "anat" / f"{name}_space-{SMALL}_res-1_desc-{description}_T1w.nii.gz"


def test_the_run_ends_and_says_that_some_failed(run: tuple[Path, int, str]) -> None:
    _, code, messages = run
    assert code == 1
    assert "Traceback" not in messages
    assert "3 images done, 2 failed" in messages


def test_a_killed_worker_is_named_and_the_others_are_done(run: tuple[Path, int, str]) -> None:
    out, _, messages = run
    crash = read_crash(next(out.glob("logs/crash-*-sub-killed.txt")))
    assert (crash["code"], crash["step"]) == (1, "Conform")
    assert "killed (out of memory?)" in crash["message"]
    assert any("sub-killed" in line and "out of memory?" in line for line in messages.splitlines())
    assert "out of memory?" in (out / "sub-killed.html").read_text()
    for name in ("sub-good", "sub-twin", "sub-parts_part-mag"):
        assert harmonized(out, name).is_file()


def test_a_scan_that_lies_there_twice(run: tuple[Path, int, str]) -> None:
    """Compressed and not: the same data are one scan; different ones are an error of this scan alone."""
    out, _, _ = run
    assert harmonized(out, "sub-twin").is_file()
    assert not harmonized(out, "sub-unlike").exists()
    crash = read_crash(next(out.glob("logs/crash-*-sub-unlike.txt")))
    assert crash["code"] == 65
    assert "lie side by side and differ" in crash["message"]


def test_a_phase_image_is_no_anatomy(run: tuple[Path, int, str]) -> None:
    out, _, _ = run
    assert harmonized(out, "sub-parts_part-mag").is_file()
    assert not list(out.glob("sub-parts/anat/*phase*"))


def test_a_site_names_its_scans(run: tuple[Path, int, str]) -> None:
    out, _, _ = run
    sidecar = json.loads(Path(str(harmonized(out, "sub-twin", "harmonized+A")).replace(".nii.gz", ".json")).read_text())
    scans = sidecar["Harmonization"]["Reference"]["scans"]
    names = [f"bids:raw:sub-{name}/anat/sub-{name}_T1w.nii.gz" for name in ("good", "twin")]
    assert [scan["Scan"] for scan in scans] == names
    assert all(len(scan["SHA256"]) == 64 for scan in scans)
    assert set(names) <= set(sidecar["Sources"])


def test_precision_is_what_ran(run: tuple[Path, int, str]) -> None:
    out, _, _ = run
    sidecar = json.loads(Path(str(harmonized(out, "sub-good")).replace(".nii.gz", ".json")).read_text())
    assert sidecar["Harmonization"]["Precision"] == "float32"
    assert sidecar["Harmonization"]["Device"] == "cpu"


def test_what_is_kept_can_be_read_by_the_group(run: tuple[Path, int, str]) -> None:
    """Files have the mode that the umask (027 here) says, those of safetensors too."""
    out, _, _ = run
    files = [path for path in (*out.glob(".imunity_cache/**/*"), *out.glob("sub-*/anat/*")) if path.is_file()]
    assert any(path.suffix == ".safetensors" for path in files)
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o640}


def test_a_missing_file_is_the_trouble_of_one_report(
    run: tuple[Path, int, str], dataset: Path, tmp_path: Path, imunity: Callable[..., int]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(run[0], out)
    lost = out / "sub-good" / "anat" / "sub-good_desc-preproc_T1w.nii.gz"
    lost.unlink()
    for report in out.glob("sub-*.html"):
        report.unlink()
    options = ["--reference", "default", "--reference", "site:A", "--participant-label", "good", "twin"]
    assert imunity(dataset, out, *options, "--reports-only") == 0
    assert f"Files are missing: {lost.name}" in (out / "sub-good.html").read_text()
    assert "<img" in (out / "sub-twin.html").read_text()
    assert imunity(dataset, out, *options, "--nprocs", 1) == 0
    assert lost.is_file()
    assert "<img" in (out / "sub-good.html").read_text()


def test_a_report_that_cannot_be_made_stops_no_other(
    run: tuple[Path, int, str], dataset: Path, tmp_path: Path, imunity: Callable[..., int]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(run[0], out)
    (out / "sub-good" / "anat" / "sub-good_desc-brain_mask.nii.gz").write_bytes(b"damaged")
    options = ["--reference", "default", "--reference", "site:A", "--participant-label", "good", "twin"]
    (out / "sub-twin.html").unlink()
    assert imunity(dataset, out, *options, "--reports-only", "--nprocs", 1) == 1
    assert "<img" in (out / "sub-twin.html").read_text()


@pytest.mark.parametrize("reference", ["sub-bad", "bad.nii.gz"])
def test_why_a_reference_failed_is_said_with_its_code(
    dataset: Path, tmp_path: Path, imunity: Callable[..., int], reference: str, capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """It is opened when its turn comes: the header is there, the voxels are cut short."""
    whole = (dataset / "sub-good" / "anat" / "sub-good_T1w.nii.gz").read_bytes()
    folder = tmp_path / "bids"
    shutil.copytree(dataset / "sub-good", folder / "sub-good")
    shutil.copy(dataset / "dataset_description.json", folder)
    (folder / "sub-bad" / "anat").mkdir(parents=True)
    (folder / "sub-bad" / "anat" / "sub-bad_T1w.nii.gz").write_bytes(whole[: len(whole) // 2])
    shutil.copy(folder / "sub-bad" / "anat" / "sub-bad_T1w.nii.gz", tmp_path / "bad.nii.gz")
    monkeypatch.chdir(tmp_path)
    options = ["--participant-label", "good", "--reference", reference, "--nprocs", 1]
    assert imunity(folder, tmp_path / "out", *options) == 65
    crash = next((tmp_path / "out" / "logs").glob("crash-*"))
    assert "truncated" in read_crash(crash)["message"]
    assert "its reference" in (tmp_path / "out" / "sub-good.html").read_text()
    assert "truncated" in (tmp_path / "out" / "sub-good.html").read_text()


def test_the_manifest_says_what_became_of_every_image(run: tuple[Path, int, str], dataset: Path) -> None:
    """For a workflow manager: codes, reasons, and outputs that are there."""
    out, code, messages = run
    (path,) = out.glob("logs/imunity_*.json")
    told = json.loads(path.read_text())
    assert str(path) in messages
    assert (told["ExitCode"], told["BIDSDir"], told["ReportsFailed"]) == (code, str(dataset), [])
    assert (out / told["Options"]).is_file() and (out / told["Log"]).is_file()
    assert [reference["Label"] for reference in told["References"]] == ["default", "A"]
    images = {entry["Input"].removeprefix("bids:raw:").split("/")[0]: entry for entry in told["Images"]}
    outcomes = {name.removeprefix("sub-"): entry["Outcome"] for name, entry in images.items()}
    assert outcomes == {"good": "done", "killed": "failed", "parts": "done", "twin": "done", "unlike": "failed"}
    assert images["sub-unlike"]["ExitCode"] == 65
    assert "lie side by side" in images["sub-unlike"]["Reason"]
    assert (out / images["sub-killed"]["CrashFile"]).is_file()
    good = images["sub-good"]
    assert all((out / name).is_file() for name in (*good["Outputs"], good["Report"]))
    record = json.loads(Path(str(harmonized(out, "sub-good")).replace(".nii.gz", ".json")).read_text())
    made = good["Harmonized"]["harmonized"]
    assert made["ParametersHash"] == record["Harmonization"]["ParametersHash"]
    assert made["Verdict"] == record["QualityControl"]["verdict"]
    assert set(good["Harmonized"]) == {"harmonized", "harmonized+A"}


def test_a_run_that_is_ended_leaves_the_reports_of_what_is_done(
    tmp_path: Path, make_bids: Callable, imunity: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process does one image after the other; the second one's turn never comes to an end."""
    from imunity_bids.workflows import execute as module

    real, begun = module.execute, []

    def ended_at_the_second(*arguments: object) -> None:
        begun.append(arguments)
        if len(begun) > 1:
            raise KeyboardInterrupt
        real(*arguments)

    monkeypatch.setattr(module, "execute", ended_at_the_second)
    dataset, out = make_bids(tmp_path / "bids", {"sub-01": 1.0, "sub-02": 1.0}), tmp_path / "out"
    assert imunity(dataset, out) == 130
    assert harmonized(out, "sub-01").is_file()
    assert "sub-01" in (out / "sub-01.html").read_text()
    assert not (out / "sub-02.html").exists()
