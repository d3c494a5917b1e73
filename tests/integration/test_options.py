"""Every option on a command line, and what it changes: a file, a number, a line or a code."""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from imunity_bids.cli.run import main
from imunity_bids.hashes import sha256
from imunity_bids.models.brain import BrainNet
from imunity_bids.models.card import BRAIN_NETWORK
from imunity_bids.models.imunity import Generator
from imunity_bids.models.weights import load_weights, save_weights
from tests.integration.conftest import SMALL, describe, sidecar, told, voxels, with_gamma, write

IMAGES = {"sub-01_ses-1": 1.0, "sub-01_ses-2_acq-low_run-1": 1.2, "sub-02_ses-1_run-2": 1.3, "sub-02_ses-2": 0.9}
ONE = ("--participant-label", "01", "--session-label", "1")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, make_bids: Callable) -> Path:
    folder = make_bids(tmp_path_factory.mktemp("options"), IMAGES)
    (folder / "participants.tsv").write_text("participant_id\tscanner\nsub-01\tA\nsub-02\tB\n")
    return folder


@pytest.fixture(scope="module")
def other_contrast(tmp_path_factory: pytest.TempPathFactory, small_brain: nib.Nifti1Image) -> Path:
    """A T1w file outside any dataset."""
    path = tmp_path_factory.mktemp("reference") / "a_T1w.nii.gz"
    with_gamma(small_brain, 0.7).to_filename(path)
    return path


@pytest.fixture(scope="module")
def base(
    dataset: Path, other_contrast: Path, tmp_path_factory: pytest.TempPathFactory, imunity: Callable[..., int]
) -> Path:
    """One image to a file and to a site; the work folder stays, so that what comes next is quick."""
    out = tmp_path_factory.mktemp("base") / "out"
    references = ("--reference", other_contrast, "--reference", "site:B", "--site-column", "scanner")
    assert imunity(dataset, out, *ONE, *references, "-w", out.with_name("work")) == 0
    return out


@pytest.fixture
def listed(dataset: Path, tmp_path: Path, imunity: Callable[..., int], capsys: pytest.CaptureFixture) -> Callable:
    """What `--dry-run` says it would run, as stems."""

    def run(*options: object, bids: Path = dataset) -> list[str]:
        capsys.readouterr()
        assert imunity(bids, tmp_path / "none", *options, "--dry-run") == 0
        lines = capsys.readouterr().out.splitlines()
        return [line.split("/")[-1].partition("_T1w")[0] for line in lines if line.startswith("run ")]

    return run


def toml(out: Path) -> dict[str, Any]:
    """Options of the last run."""
    newest = max((out / "logs").glob("imunity_*.toml"), key=lambda path: path.stat().st_mtime_ns)
    return tomllib.loads(newest.read_text())


def log(out: Path) -> str:
    newest = max((out / "logs").glob("imunity_*.log"), key=lambda path: path.stat().st_mtime_ns)
    return newest.read_text()


def manifest(out: Path) -> dict[str, Any]:
    """What the last run says that it did."""
    newest = max((out / "logs").glob("imunity_*.json"), key=lambda path: path.stat().st_mtime_ns)
    return json.loads(newest.read_text())


def times(out: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in out.glob("sub-*/**/*.nii.gz")}


# which images


def test_sessions_and_filters_select(listed: Callable, tmp_path: Path) -> None:
    assert listed() == sorted(IMAGES)
    assert listed("--session-label", "ses-2") == ["sub-01_ses-2_acq-low_run-1", "sub-02_ses-2"]
    assert listed("--session_label", "2", "--participant_label", "sub-02") == ["sub-02_ses-2"]
    chosen = tmp_path / "filter.json"
    chosen.write_text('{"t1w": {"acquisition": "low"}}')
    assert listed("--bids-filter-file", chosen) == ["sub-01_ses-2_acq-low_run-1"]
    chosen.write_text('{"t1w": {"run": [1, 2]}, "bold": {"run": 9}}')
    assert listed("--bids-filter-file", chosen) == ["sub-01_ses-2_acq-low_run-1", "sub-02_ses-1_run-2"]


def test_filters_that_are_none(dataset: Path, tmp_path: Path, imunity: Callable[..., int]) -> None:
    assert imunity(dataset, tmp_path, "--bids-filter-file", tmp_path / "absent.json") == 66
    (tmp_path / "broken.json").write_text("[")
    assert imunity(dataset, tmp_path, "--bids-filter-file", tmp_path / "broken.json") == 64
    assert imunity(dataset, tmp_path, "--session-label", "9") == 18


def test_a_database_is_made_once_and_believed_afterwards(
    listed: Callable, make_bids: Callable, small_brain: nib.Nifti1Image, tmp_path: Path
) -> None:
    bids, database = make_bids(tmp_path / "bids", {"sub-01": 1.0}), tmp_path / "database"
    assert listed("--bids-database-dir", database, bids=bids) == ["sub-01"]
    assert list(database.iterdir())
    write(bids, "sub-02", small_brain)
    assert listed(bids=bids) == ["sub-01", "sub-02"]
    assert listed("--bids-database-dir", database, bids=bids) == ["sub-01"]  # that is what it is for


def test_a_folder_without_a_description_is_taken_if_asked(
    make_bids: Callable, listed: Callable, tmp_path: Path, imunity: Callable[..., int]
) -> None:
    bids = make_bids(tmp_path / "bids", {"sub-01": 1.0})
    (bids / "dataset_description.json").unlink()
    assert imunity(bids, tmp_path / "out", "--dry-run") == 16
    assert listed("--skip-bids-validation", bids=bids) == ["sub-01"]


# reference and model


def test_a_file_and_a_site_are_references(base: Path, other_contrast: Path) -> None:
    file, site = (told(base, "sub-01_ses-1", d)["Harmonization"]["Reference"] for d in ("harmonized", "harmonized+B"))
    assert (file["type"], file["label"], file["sha256"]) == ("file", "aT1w", sha256(other_contrast))
    assert (site["type"], site["label"]) == ("site", "B")
    assert not np.array_equal(voxels(base, "sub-01_ses-1"), voxels(base, "sub-01_ses-1", "harmonized+B"))


def test_a_site_column_that_is_not_there(dataset: Path, tmp_path: Path, imunity: Callable[..., int], capsys) -> None:
    assert imunity(dataset, tmp_path, "--reference", "site:B") == 64
    assert "--site-column" in capsys.readouterr().err


def test_what_one_run_decides_differently(
    base: Path,
    dataset: Path,
    other_contrast: Path,
    tmp_path: Path,
    imunity: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Slices of the reference, batch, device, precision and memory: all at once, each seen by itself."""
    batches = []
    maps = Generator.error_map

    def spied(self: Generator, slices: torch.Tensor, *rest: torch.Tensor) -> tuple:
        batches.append(len(slices))
        return maps(self, slices, *rest)

    monkeypatch.setattr(Generator, "error_map", spied)
    options = ("--batch-size", 5, "--device", "cpu", "--precision", "bfloat16", "--mem-gb", 0.5, "--omp-nthreads", 1)
    references = ("--reference", other_contrast, "--reference-slices", 1)
    work = ("-w", base.with_name("work"))  # preprocessed there already
    assert imunity(dataset, tmp_path, *ONE, *references, *options, *work) == 0
    assert max(batches) == 5
    found, before = (told(out, "sub-01_ses-1")["Harmonization"] for out in (tmp_path, base))
    assert found["ReferenceSlices"] == 1
    assert found["Reference"] == before["Reference"]
    assert found["ParametersHash"] != before["ParametersHash"]
    assert (
        np.abs(voxels(tmp_path, "sub-01_ses-1") - voxels(base, "sub-01_ses-1")).max() > 0
    )  # an untrained network hardly heeds codes
    assert found["Device"] == "cpu"
    run = toml(tmp_path)
    assert (run["batch_size"], run["precision"], run["mem_gb"], run["omp_nthreads"]) == (5, "bfloat16", 0.5, 1)


def test_batches_and_a_precision_that_only_a_gpu_has_change_nothing(
    base: Path, dataset: Path, other_contrast: Path, tmp_path: Path, imunity: Callable[..., int]
) -> None:
    options = ("--reference", other_contrast, "--batch-size", 3, "--precision", "float16", "--device", "cpu")
    assert imunity(dataset, tmp_path, *ONE, *options, "-w", base.with_name("work")) == 0
    np.testing.assert_allclose(voxels(tmp_path, "sub-01_ses-1"), voxels(base, "sub-01_ses-1"), atol=1e-5)


def test_the_sidecar_tells_the_precision_that_ran(
    base: Path, dataset: Path, tmp_path: Path, imunity: Callable[..., int]
) -> None:
    options = ("--precision", "float16", "--device", "cpu", "-w", base.with_name("work"))
    assert imunity(dataset, tmp_path, *ONE, *options) == 0
    assert told(tmp_path, "sub-01_ses-1")["Harmonization"]["Precision"] == "float32"


@pytest.mark.parametrize("device", ["nonsense", "cuda:99"])
def test_a_device_that_is_not_there_is_code_64_at_once(
    dataset: Path, tmp_path: Path, imunity: Callable[..., int], device: str
) -> None:
    assert imunity(dataset, tmp_path, *ONE, "--device", device) == 64
    assert not list(tmp_path.rglob("*.nii.gz"))


# preprocessing


def test_rigid_registration_and_a_seed(base: Path, dataset: Path, tmp_path: Path, imunity: Callable[..., int]) -> None:
    assert imunity(dataset, tmp_path, *ONE, "--registration", "rigid", "--random-seed", 7) == 0
    found = told(tmp_path, "sub-01_ses-1")["Harmonization"]
    assert (found["Registration"], found["Seed"]) == ("rigid", 7)
    linear = {name: linear_part(out) for name, out in (("rigid", tmp_path), ("affine", base))}
    np.testing.assert_allclose(linear["rigid"] @ linear["rigid"].T, np.eye(3), atol=1e-4)
    assert abs(abs(np.linalg.det(linear["affine"])) - 1) > 0.02  # a smaller head was stretched


def linear_part(out: Path) -> np.ndarray:
    """3 x 3 of the transform from image to template."""
    import ants

    path = next(out.glob(f"sub-01/ses-1/anat/*_from-T1w_to-{SMALL}_mode-image_xfm.mat"))
    return ants.read_transform(str(path)).parameters[:9].reshape(3, 3)


@pytest.fixture(scope="module")
def generous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped brain network, more easily convinced that a voxel is brain."""
    folder = tmp_path_factory.mktemp("brain")
    card = json.loads((BRAIN_NETWORK / "card.json").read_text())
    weights = load_weights(BRAIN_NETWORK / "brain.safetensors", card["sha256"])
    network = BrainNet(tuple(card["architecture"]["widths"]))
    last = [name for name in network.state_dict() if name.endswith("bias")][-1]
    weights[last] += 1.5
    card["sha256"] = save_weights(folder / "brain.safetensors", weights)
    (folder / "card.json").write_text(json.dumps(card))
    return folder


def test_brain_models_and_borders(
    small_head: nib.Nifti1Image, generous: Path, tmp_path: Path, imunity: Callable[..., int]
) -> None:
    """The same head: a model of one's own that takes more, and a border that takes less."""
    bids = tmp_path / "bids"
    write(bids, "sub-01", small_head)
    describe(bids)
    volume = {}
    for name, options in {
        "shipped": (),
        "own": ("--brain-model", generous),
        "tight": ("--brain-border", -2.5),
    }.items():
        out = tmp_path / name
        assert imunity(bids, out, "--skull-strip", "network", *options, "-w", tmp_path / f"work-{name}") == 0
        volume[name] = told(out, "sub-01")["QualityControl"]["brain_volume_ml"]
    # a border of 2.5 mm on the surface of a brain with the rim of its mask, some 700 cm²: 0.17 L
    assert 60 < volume["shipped"] - volume["tight"] < 300
    assert volume["own"] > volume["shipped"] + 10


def test_models_that_are_not_there(
    dataset: Path,
    tmp_path: Path,
    imunity: Callable[..., int],
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture,
) -> None:
    assert imunity(dataset, tmp_path, *ONE, "--skull-strip", "network", "--brain-model", tmp_path / "absent") == 66
    absent = tmp_path / "absent.pt"
    code = imunity(dataset, tmp_path / "out", *ONE, "--skull-strip", "synthstrip", "--synthstrip-model", absent)
    assert code == 66
    assert str(absent) in caplog.text + capsys.readouterr().err


# resources and operation


def test_a_plugin_of_ones_own(
    base: Path,
    dataset: Path,
    other_contrast: Path,
    tmp_path: Path,
    imunity: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The plugin's processes do the work: in this one, where it is done otherwise, the models are broken."""
    monkeypatch.setattr(Generator, "error_map", None)
    content = "plugin: MultiProc\nplugin_args: {n_procs: 2, memory_gb: 4, mp_context: forkserver}\n"
    (tmp_path / "plugin.yml").write_text(content)
    out = tmp_path / "out"
    options = ("--reference", other_contrast, "--use-plugin", tmp_path / "plugin.yml", "--verbose")
    assert imunity(dataset, out, *ONE, *options) == 0
    assert np.array_equal(voxels(out, "sub-01_ses-1"), voxels(base, "sub-01_ses-1"))
    assert toml(out)["verbosity"] == 1


@pytest.mark.parametrize(
    ("content", "code"),
    [(None, 66), ("plugin: [", 64), ("no plugin", 64), ("plugin_args: {n_procs: 2}", 64)],
    ids=["absent", "not YAML", "no mapping", "no name"],
)
def test_a_plugin_file_that_is_none(
    dataset: Path, tmp_path: Path, imunity: Callable[..., int], content: str | None, code: int
) -> None:
    if content is not None:
        (tmp_path / "plugin.yml").write_text(content)
    assert imunity(dataset, tmp_path / "out", *ONE, "--use-plugin", tmp_path / "plugin.yml") == code
    assert not list(tmp_path.rglob("*.nii.gz"))


def test_a_graph_of_all_images_is_drawn_or_said_to_be_impossible(
    base: Path, dataset: Path, other_contrast: Path, tmp_path: Path, imunity: Callable[..., int]
) -> None:
    """One process does one image after the other, each in a workflow of its own."""
    options = ("--reference", other_contrast, "--write-graph", "-w", base.with_name("work"))
    assert imunity(dataset, tmp_path, "--session-label", "1", *options) == 0
    graph = (tmp_path / "logs" / "workflow.dot").read_text()
    assert "digraph" in graph
    for name in ("sub-01_ses-1", "sub-02_ses-1_run-2"):
        assert name.replace("-", "_") in graph
        assert sidecar(tmp_path, name).is_file()


def test_processes_threads_and_a_work_folder_that_is_cleaned(
    dataset: Path, tmp_path: Path, imunity: Callable[..., int]
) -> None:
    out, work = tmp_path / "out", tmp_path / "work"
    call = (*ONE, "--work-dir", work, "--nprocs", 4, "--omp-nthreads", 2)
    assert imunity(dataset, out, *call, "--reports-only") == 0
    assert "2 processes of 2 threads" in log(out)
    assert "0 images done, 0 failed, 1 not begun" in log(out)
    assert [entry["Outcome"] for entry in manifest(out)["Images"]] == ["not begun"]
    (work / "leftover").touch()
    assert imunity(dataset, out, *call, "--reports-only") == 0
    assert (work / "leftover").exists()
    assert imunity(dataset, out, *call, "--reports-only", "--clean-workdir") == 0
    assert work.is_dir()
    assert not (work / "leftover").exists()


@pytest.fixture
def copied(base: Path, tmp_path: Path) -> Path:
    """Results that a test may change."""
    return Path(shutil.copytree(base, tmp_path / "out"))


def test_force_does_again_what_is_done(
    base: Path, copied: Path, dataset: Path, other_contrast: Path, imunity: Callable[..., int]
) -> None:
    call = (*ONE, "--reference", other_contrast)
    before = times(copied)
    assert imunity(dataset, copied, *call) == 0
    assert times(copied) == before
    assert [entry["Outcome"] for entry in manifest(copied)["Images"]] == ["done before"]
    assert imunity(dataset, copied, *call, "--force") == 0
    kept = {name for name, time in times(copied).items() if time == before[name]}
    assert {Path(name).name.partition("desc-")[2] for name in kept} == {
        "harmonized+B_T1w.nii.gz",
        "uncertainty+B_T1w.nii.gz",
    }
    assert np.array_equal(voxels(copied, "sub-01_ses-1"), voxels(base, "sub-01_ses-1"))


@pytest.mark.parametrize("why", ["forced", "deleted"])
def test_a_kept_work_folder_does_not_keep_results_from_being_written(
    dataset: Path, tmp_path: Path, imunity: Callable[..., int], why: str
) -> None:
    out, call = tmp_path / "out", (*ONE, "-w", tmp_path / "work")
    assert imunity(dataset, out, *call) == 0
    before = times(out)
    if why == "deleted":
        for path in out.rglob("*_desc-harmonized_T1w.*"):
            path.unlink()
    assert imunity(dataset, out, *call, *(["--force"] if why == "forced" else [])) == 0
    image = str(sidecar(out, "sub-01_ses-1").with_suffix(".nii.gz"))
    assert times(out)[image] > before[image]


def test_reports_only_writes_reports_of_what_is_there(
    copied: Path, dataset: Path, other_contrast: Path, imunity: Callable[..., int]
) -> None:
    for path in (copied / "sub-01_ses-1.html", copied / "sub-01" / "ses-1" / "sub-01_ses-1_scans.tsv"):
        path.unlink()
    before = times(copied)
    options = ("--participant-label", "01", "--reference", other_contrast, "--reports-only")
    assert imunity(dataset, copied, *options) == 0
    assert (copied / "sub-01_ses-1.html").read_text().count("<img") >= 7
    assert (copied / "sub-01" / "ses-1" / "sub-01_ses-1_scans.tsv").is_file()
    assert times(copied) == before
    assert not sidecar(copied, "sub-01_ses-2_acq-low_run-1").exists()


def test_the_toml_of_a_run_repeats_it(
    base: Path, dataset: Path, imunity: Callable[..., int], capsys: pytest.CaptureFixture
) -> None:
    config = next((base / "logs").glob("imunity_*.toml"))
    call = [str(dataset), str(base), "participant"]
    assert main([*call, "--config-file", str(config), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert said.count("\ndone ") == 1
    assert "\nrun " not in said
    assert imunity(dataset, base, *ONE, "--dry-run") == 0  # without: another reference
    assert "\nrun " in capsys.readouterr().out


def test_the_first_crash_stops_the_run_if_asked(
    small_brain: nib.Nifti1Image, tmp_path: Path, imunity: Callable[..., int]
) -> None:
    bids = tmp_path / "bids"
    write(bids, "sub-00", nib.Nifti1Image(np.zeros((40, 40, 40), np.int16), 3 * np.eye(4)))
    for label in ("01", "02"):
        write(bids, f"sub-{label}", small_brain)
    describe(bids)
    assert imunity(bids, tmp_path / "out", "--stop-on-first-crash") != 0
    assert not list((tmp_path / "out").rglob("*harmonized*"))
    assert "every voxel is zero" in log(tmp_path / "out")
    assert imunity(bids, tmp_path / "on", "--participant-label", "00", "01") == 1
    assert sidecar(tmp_path / "on", "sub-01").is_file()


def test_a_scan_is_denoised_and_the_result_smoothed_if_asked(
    dataset: Path, tmp_path: Path, imunity: Callable[..., int], capsys: pytest.CaptureFixture
) -> None:
    """Each is told in the sidecar; less noise and the width that was asked for are measured in the image."""
    reference = ("--reference", "sub-02_ses-2")
    plain, quiet, smooth = tmp_path / "plain", tmp_path / "quiet", tmp_path / "smooth"
    assert imunity(dataset, plain, *ONE, *reference) == 0
    assert imunity(dataset, quiet, *ONE, *reference, "--denoise", "nlm") == 0
    assert imunity(dataset, smooth, *ONE, *reference, "--target-fwhm", "8") == 0
    before, denoised, smoothed = (told(out, "sub-01_ses-1") for out in (plain, quiet, smooth))
    assert (before["Denoising"], "SmoothingFWHM" in before) == ("none", False)
    assert "non-local means" in denoised["Denoising"]
    assert denoised["QualityControl"]["wm_cov_before"] < before["QualityControl"]["wm_cov_before"]
    assert smoothed["SmoothingFWHM"]["After"] == pytest.approx(8, abs=0.1)
    assert smoothed["QualityControl"]["fwhm_x_after"] > before["QualityControl"]["fwhm_x_after"]
    capsys.readouterr()
    assert imunity(dataset, smooth, *ONE, "--target-fwhm", "reference") == 64
    assert "the smoothness of the bundle's default is unknown" in capsys.readouterr().err


def test_noise_is_kept_if_asked_and_both_are_told(dataset: Path, tmp_path: Path, imunity: Callable[..., int]) -> None:
    """The tiny bundle's reference has no known noise, so nothing is matched; the option alone makes it anew."""
    out, work = tmp_path / "out", ("-w", tmp_path / "work")
    hashes = []
    for choice in ("match", "keep"):
        assert imunity(dataset, out, *ONE, *work, "--noise", choice) == 0
        hashes.append(told(out, "sub-01_ses-1")["Harmonization"]["ParametersHash"])
    assert hashes[0] != hashes[1]


def test_all_scans_of_a_site_have_one_curve_if_asked(
    base: Path, dataset: Path, tmp_path: Path, imunity: Callable[..., int]
) -> None:
    """From the mean of its persons' first scans, which here is one: what it does to one scan it does to the other."""
    options = ("--participant-label", "01", "--curve", "site", "--site-column", "scanner", "--noise", "keep")
    assert imunity(dataset, tmp_path / "out", *options, "-w", base.with_name("work")) == 0
    stems = ("sub-01_ses-1", "sub-01_ses-2_acq-low_run-1")
    values = []
    for stem in stems:
        before, after = (voxels(tmp_path / "out", stem, description) for description in ("preproc", "harmonized"))
        order = np.argsort(before[before > 0])
        values.append((before[before > 0][order], after[before > 0][order]))
        made = told(tmp_path / "out", stem)["Harmonization"]["SiteCurve"]
        assert made["Site"] == "A"
        assert [scan["Scan"].split("/")[-1] for scan in made["Scans"]] == ["sub-01_ses-1_T1w.nii.gz"]
    (first, aims), (second, there) = values
    within = (second > first[0]) & (second < first[-1])
    assert within.mean() > 0.9
    assert np.abs(np.interp(second, first, aims) - there)[within].max() < 1e-3  # the curve between 1,025 points
    assert "All scans of a site got one curve" in (tmp_path / "out" / "sub-01_ses-1.html").read_text()


def test_the_bias_field_is_written_later_if_it_is_asked_for_later(
    base: Path, dataset: Path, tmp_path: Path, imunity: Callable[..., int]
) -> None:
    """And without a correction the image is the scan, the field is one, and the sidecar says so."""
    out, work = tmp_path / "out", ("-w", base.with_name("work"))
    anat = out / "sub-01" / "ses-1" / "anat"
    field, image = (anat / f"sub-01_ses-1_desc-{name}_T1w.nii.gz" for name in ("biasfield", "preproc"))

    def read(path: Path) -> np.ndarray:
        return np.asarray(nib.as_closest_canonical(nib.load(path)).dataobj, dtype=np.float32)

    assert imunity(dataset, out, *ONE, *work, "--no-save-bias-field") == 0
    assert not field.exists()
    assert imunity(dataset, out, *ONE, *work, "--save-bias-field") == 0
    (scan,) = (dataset / "sub-01" / "ses-1" / "anat").glob("sub-01_ses-1_T1w.nii*")
    corrected, raw = read(image), read(scan)
    np.testing.assert_allclose(corrected * read(field), raw, atol=1e-3 * raw.max())
    text = field.with_name("sub-01_ses-1_desc-biasfield_T1w.json")
    assert json.loads(text.read_text())["BiasFieldCorrection"] != "none"
    assert imunity(dataset, out, *ONE, *work, "--save-bias-field", "--bias-correction", "none") == 0
    assert (read(field) == 1).all()
    np.testing.assert_allclose(read(image), raw)
    assert json.loads(text.read_text())["BiasFieldCorrection"] == "none"


def test_the_papers_generator_ships_and_its_report_says_what_its_uncertainty_is(
    dataset: Path, base: Path, tmp_path: Path, imunity: Callable[..., int]
) -> None:
    work = base.with_name("work")
    assert imunity(dataset, tmp_path / "out", *ONE, "--model", "imunity-paper", "-w", work) == 0
    done = told(tmp_path / "out", "sub-01_ses-1")["Harmonization"]
    assert done["Method"] == "ImUnity as published (Cackowski 2023)"
    assert done["Bundle"]["Architecture"]["kind"] == "paper"
    page = (tmp_path / "out" / "sub-01_ses-1.html").read_text()
    assert "the standard deviation of the three axes at each voxel" in page
    assert "as learned on simulated scans" not in page
