"""The app on small real files: outputs, resumption, references, parallel jobs, a full disk."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from imunity_bids.cli.run import main
from imunity_bids.run.turns import turn
from tests.integration.conftest import HARMONIZED as STEM
from tests.integration.conftest import SMALL, mounted

HARMONIZED = f"{STEM}.nii.gz"


def digests(out: Path) -> dict[str, str]:
    """Content of every image; gzip's header holds a time, so what it wraps is hashed."""
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(np.asarray(nib.load(path).dataobj).tobytes()).hexdigest()
        for path in sorted(out.glob("sub-*/**/*.nii.gz"))
    }


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, make_bids: Callable) -> Iterator[Path]:
    """Spaces and accents in the path; sessions, runs and a plus in the names; read-only, for root too where it may."""
    folder = tmp_path_factory.mktemp("données à lire") / "my bids"
    made = make_bids(folder, {"sub-01": 1.0, "sub-02_ses-a_acq-x+y_run-2": 1.3})
    (made / "participants.tsv").write_text("participant_id\tsite\nsub-01\tA\nsub-02\tB\n")
    for path in (made, *made.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    with mounted(made, "-o", "bind,ro", str(made)):
        yield made
    made.chmod(0o755)  # or pytest could not remove it


def test_the_dataset_is_read_only(dataset: Path) -> None:
    """The fixture, so that all runs of this file say what they seem to say."""
    try:
        (dataset / "sub-01" / "new").touch()
    except OSError:
        return
    (dataset / "sub-01" / "new").unlink()
    pytest.skip("root writes everywhere, and may not mount here: nothing shows that the dataset stays as it is")


@pytest.fixture(scope="module")
def results(dataset: Path, tmp_path_factory: pytest.TempPathFactory, imunity: Callable[..., int]) -> Path:
    out = tmp_path_factory.mktemp("résultats") / "out"
    options = ["--output-spaces", "T1w", "template:res-2", "--reference", "default", "--nprocs", 2, "--omp-nthreads", 1]
    assert imunity(dataset, out, *options, "--reference", "site:B", "--reference", "sub-01") == 0
    return out


def test_every_promised_file_is_there(results: Path) -> None:
    for stem in ("sub-01/anat/sub-01", "sub-02/ses-a/anat/sub-02_ses-a_acq-x+y_run-2"):
        for name in (
            "_desc-brain_mask.nii.gz",
            "_desc-preproc_T1w.nii.gz",
            "_desc-harmonized_T1w.nii.gz",
            f"_space-{SMALL}_res-1_desc-brain_mask.nii.gz",
            f"_space-{SMALL}_res-1_desc-preproc_T1w.nii.gz",
            f"_space-{SMALL}_res-1_desc-uncertainty_T1w.nii.gz",
            f"_space-{SMALL}_res-2_desc-brain_mask.nii.gz",
            f"_space-{SMALL}_res-2_desc-harmonized+B_T1w.nii.gz",
            HARMONIZED,
            HARMONIZED.replace("harmonized", "harmonized+B"),
            HARMONIZED.replace("harmonized", "harmonized+sub01"),
        ):
            assert (results / (stem + name)).is_file(), name
            assert (results / (stem + name.replace(".nii.gz", ".json"))).is_file(), name
        for label in ("harmonized", "harmonized+B", "harmonized+sub01"):
            features = json.loads((results / f"{stem}_space-{SMALL}_res-1_desc-{label}_features.json").read_text())
            assert {"before", "after", "matching", "blurred"} == set(features["Images"])
        assert (results / f"{stem}_from-T1w_to-{SMALL}_mode-image_xfm.mat").is_file()
    for name in ("sub-01.html", "sub-02_ses-a.html", "sub-01/sub-01_scans.tsv", "logs/CITATION.md"):
        assert (results / name).is_file()
    assert not list(results.glob("logs/crash*"))
    assert not [p for p in results.rglob(".*") if p.is_file() and p.name != ".bidsignore" and "imunity" not in str(p)]


def test_group_gathers_all(dataset: Path, results: Path) -> None:
    assert main([str(dataset), str(results), "group"]) == 0
    rows = (results / "group.tsv").read_text().splitlines()
    assert len(rows) == 1 + 2 * 3
    assert {row.split("\t")[3] for row in rows[1:]} == {"A", "B"}
    assert "2 images of 2 persons, 2 sites" in (results / "group.html").read_text()


def test_the_validator_has_nothing_to_say(dataset: Path, results: Path) -> None:
    """Reports, tables of the group level and logs included."""
    main([str(dataset), str(results), "group"])
    validator = Path(sys.executable).with_name("bids-validator-deno")  # make does not activate the environment
    done = subprocess.run([validator, "--json", results], capture_output=True, text=True)
    issues = json.loads(done.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue.get("severity") in ("error", "warning")] == []
    assert done.returncode == 0


def test_what_the_validator_does_not_see(results: Path) -> None:
    description = json.loads((results / "dataset_description.json").read_text())
    assert {"Name", "GeneratedBy", "DatasetLinks"} <= set(description)
    for sidecar in results.glob("sub-*/**/*.json"):
        for uri in json.loads(sidecar.read_text()).get("Sources", []):
            if uri.startswith("bids::"):
                assert (results / uri.removeprefix("bids::")).is_file(), uri
            else:
                assert uri.startswith("bids:raw:sub-")
    for mask in results.glob("sub-*/**/*_mask.nii.gz"):
        assert set(np.unique(nib.load(mask).dataobj)) == {0, 1}
    labels = {re.search(r"desc-([^_]+)_", path.name)[1] for path in results.glob("sub-*/**/*.nii.gz")}
    rows = (results / "descriptions.tsv").read_text().splitlines()[1:]
    assert {f"desc-{label}" for label in labels} <= {row.split("\t")[0] for row in rows}
    assert not [p for p in results.glob("sub-*/**/*_T1w.nii.gz") if "desc-" not in p.name]


def test_headers(results: Path) -> None:
    for path in results.glob("sub-*/**/*.nii.gz"):
        header = nib.load(path).header
        code = 4 if "space-" in path.name else 1
        assert (int(header["qform_code"]), int(header["sform_code"])) == (code, code)
        np.testing.assert_allclose(header.get_qform(), header.get_sform(), atol=1e-4)
        assert header.get_data_dtype() == (np.uint8 if path.name.endswith("mask.nii.gz") else np.float32)


def test_values_are_on_the_models_scale(results: Path) -> None:
    path = results / "sub-01" / "anat" / f"sub-01{HARMONIZED}"
    data = nib.load(path).get_fdata()
    mask = nib.load(str(path).replace("harmonized_T1w", "brain_mask")).get_fdata() > 0
    assert (data[~mask] == 0).all()
    assert data.min() >= 0
    assert data.max() <= 1
    striped = nib.load(str(path).replace("harmonized", "preproc")).get_fdata()
    counts, edges = np.histogram(striped[mask], 50, (0.5, 0.9))
    assert edges[counts.argmax()] == pytest.approx(0.7, abs=0.03)


def test_the_native_image_lies_on_the_native_grid(results: Path, dataset: Path) -> None:
    raw = nib.load(dataset / "sub-01" / "anat" / "sub-01_T1w.nii.gz")
    back = nib.load(results / "sub-01" / "anat" / "sub-01_desc-harmonized_T1w.nii.gz")
    assert back.shape == raw.shape
    np.testing.assert_allclose(back.affine, raw.affine, atol=1e-5)
    inside = (raw.get_fdata() > 50) & (back.get_fdata() > 0)
    # the tiny model is near the identity: the way there and back must not move the brain
    assert np.corrcoef(raw.get_fdata()[inside], back.get_fdata()[inside])[0, 1] > 0.9


def test_the_sidecar_tells_all(results: Path) -> None:
    path = results / "sub-01" / "anat" / f"sub-01{HARMONIZED.replace('harmonized', 'harmonized+B')}"
    sidecar = json.loads(Path(str(path).replace(".nii.gz", ".json")).read_text())
    assert sidecar["SkullStripped"] is True
    assert sidecar["Harmonization"]["Reference"]["type"] == "site"
    assert len(sidecar["Harmonization"]["Reference"]["sha256"]) == 64
    assert set(sidecar["Harmonization"]["Bundle"]["SHA256"]) == {"sagittal", "coronal", "axial"}
    assert not {"EchoTime", "Manufacturer"} & set(sidecar)
    assert sidecar["QualityControl"]["verdict"] in ("ok", "check", "failed")


def test_the_report_stands_alone(results: Path) -> None:
    text = (results / "sub-01.html").read_text()
    assert len(text) < 3_000_000
    assert "<script" not in text
    assert not re.search(r"(src|href)=\"https?:", text)
    assert text.count("<img") >= 7


def test_what_is_done_is_not_done_again(results: Path, dataset: Path, imunity: Callable[..., int]) -> None:
    options = ["--output-spaces", "T1w", "template:res-2", "--reference", "default"]
    before = {p: p.stat().st_mtime_ns for p in results.glob("sub-*/**/*.nii.gz")}
    assert imunity(dataset, results, *options, "--reference", "site:B", "--reference", "sub-01") == 0
    assert before == {p: p.stat().st_mtime_ns for p in results.glob("sub-*/**/*.nii.gz")}


def test_a_dry_run_writes_nothing(dataset: Path, tmp_path: Path, imunity: Callable[..., int], capsys) -> None:
    assert imunity(dataset, tmp_path / "out", "--dry-run") == 0
    assert len([line for line in capsys.readouterr().out.splitlines() if line.startswith("run ")]) == 2
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def whole(
    dataset: Path, tmp_path_factory: pytest.TempPathFactory, command: Callable[..., list[str]]
) -> tuple[Path, float]:
    """A run that nothing disturbed, and its seconds."""
    out = tmp_path_factory.mktemp("whole")
    start = time.monotonic()
    subprocess.run(command(dataset, out), check=True, capture_output=True)
    return out, time.monotonic() - start


def test_killed_and_run_again_gives_the_same_images(
    dataset: Path,
    tmp_path: Path,
    whole: tuple[Path, float],
    command: Callable[..., list[str]],
    rng: np.random.Generator,
) -> None:
    """SIGKILL at three random moments of a run, then to the end: as if nothing had happened."""
    undisturbed, seconds = whole
    for share in rng.uniform(0.2, 0.95, 3):
        running = subprocess.Popen(command(dataset, tmp_path), start_new_session=True, stderr=subprocess.DEVNULL)
        try:
            running.wait(share * seconds)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    subprocess.run(command(dataset, tmp_path), check=True, capture_output=True)
    assert digests(tmp_path) == digests(undisturbed)
    assert not list(tmp_path.glob("sub-*/**/.*"))


def files(out: Path) -> list[str]:
    """But logs and locks."""
    found = (p for p in out.rglob("*") if p.is_file() and not {"logs", "at_work"} & set(p.parts))
    return sorted(p.relative_to(out).as_posix() for p in found)


@pytest.mark.parametrize("labels", [("01", "02"), ("02", "02")], ids=["each his own", "both the same"])
def test_parallel_jobs_on_one_output(
    dataset: Path, tmp_path: Path, whole: tuple[Path, float], command: Callable[..., list[str]], labels: tuple[str, str]
) -> None:
    """Two processes at once, for two participants or for the same one: the files of one run."""
    jobs = [subprocess.Popen(command(dataset, tmp_path, "--participant-label", label)) for label in labels]
    assert [job.wait() for job in jobs] == [0, 0]
    left_out = tuple(f"sub-{label}" for label in ("01", "02") if label not in labels)
    expected = {name: content for name, content in digests(whole[0]).items() if not name.startswith(left_out)}
    assert digests(tmp_path) == expected
    assert files(tmp_path) == [name for name in files(whole[0]) if not name.startswith(left_out)]


def test_a_run_waits_for_another_at_work_on_its_participant(
    dataset: Path, tmp_path: Path, command: Callable[..., list[str]]
) -> None:
    """Or with other options the files of one would stand beside those of the other, and one of them count as done."""
    with turn(tmp_path, ["02"]):
        job = subprocess.Popen(
            command(dataset, tmp_path, "--participant-label", "02"), stderr=subprocess.PIPE, text=True
        )
        said = next((line for line in job.stderr if "waiting" in line or "image 1 of 1 done" in line), "")
        assert "another run is at work on sub-02" in said
        assert not list(tmp_path.glob("sub-*"))
    job.communicate()
    assert job.returncode == 0
    assert list(tmp_path.glob("sub-02/**/*_desc-harmonized_T1w.nii.gz"))


def test_a_full_disk_is_code_74(dataset: Path, tmp_path: Path, command: Callable[..., list[str]]) -> None:
    small = tmp_path / "small"
    small.mkdir()
    with mounted(small, "-t", "tmpfs", "-o", "size=700k", "tmpfs") as allowed:  # a third of what is written
        if not allowed:
            pytest.skip("no permission to mount a small disk")
        call = command(dataset, small / "out", "-w", tmp_path / "work")
        done = subprocess.run(call, capture_output=True, text=True)
        assert done.returncode == 74, done.stderr
        assert "no space left" in done.stderr.lower()


def test_an_unwritable_output_is_code_73(
    dataset: Path, tmp_path: Path, bundle_folder: Path, command: Callable[..., list[str]]
) -> None:
    if os.geteuid() == 0 and not shutil.which("setpriv"):
        pytest.skip("root writes everywhere, and there is no setpriv to become somebody else")
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    call = command(dataset, locked / "out")
    if os.geteuid() == 0:
        for folder in (bundle_folder, tmp_path):
            for parent in [folder, *folder.parents][:-2]:
                parent.chmod(parent.stat().st_mode | 0o055)
        somebody = ["setpriv", "--reuid=65534", "--clear-groups"]
        probe = [*somebody, sys.executable, "-c", "import imunity_bids.cli.run"]
        if subprocess.run(probe, capture_output=True).returncode:
            pytest.skip("another user cannot start this interpreter")
        call = [*somebody, *call]
    done = subprocess.run(call, capture_output=True, text=True)
    assert done.returncode == 73, done.stderr
    assert "cannot be created" in done.stderr
