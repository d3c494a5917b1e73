"""`imunity-train unlearn` and `imunity-predict` on tiny derivatives."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from imunity_bids.cli import evaluate, predict, train
from imunity_bids.evaluation import unlearning
from imunity_bids.evaluation.unlearning_methods import DANN, NORMAL, QUICK, UNLEARNED, VOLUMES
from imunity_bids.unlearning.fit import Schedule
from imunity_bids.unlearning.model import load_model
from tests.cli.test_commands import HEAVY

SHORT = ["--spacing", "6", "--width", "4", "--batch", "4", "--pretrain", "4", "--steps", "4", "--every", "2"]


def dataset(folder: Path, site: str, ages: list[int], rng: np.random.Generator, labels: bool = True) -> Path:
    """Balls that grow with age, at 3 mm; their cores are label 2."""
    radius = np.sqrt(((np.indices((56, 68, 56)) - np.array([27.5, 33.5, 27.5])[:, None, None, None]) ** 2).sum(0))
    rows = ["participant_id\tsite\tage\tsex"]
    for number, age in enumerate(ages):
        name = f"sub-{site}{number}"
        rows.append(f"{name}\t{site}\t{age}\t{'FM'[number % 2]}")
        anat = folder / name / "anat"
        anat.mkdir(parents=True)
        size = 10 + age / 10
        image = np.where(radius < size, 0.5 + 0.2 * (radius < size / 2), 0) + 0.01 * (radius < size) * rng.random()
        for suffix, data in (("desc-preproc_T1w", image.astype(np.float32)), ("dseg", _dseg(radius, size))):
            if suffix != "dseg" or labels:
                path = anat / f"{name}_space-MNI_res-1_{suffix}.nii.gz"
                nib.save(nib.Nifti1Image(data, np.diag([3, 3, 3, 1])), path)
    (folder / "participants.tsv").write_text("\n".join(rows) + "\n")
    return folder


def _dseg(radius: np.ndarray, size: float) -> np.ndarray:
    return ((radius < size).astype(np.uint8) + (radius < size / 2)).astype(np.uint8)


@pytest.fixture
def sites(tmp_path: Path, rng: np.random.Generator) -> list[Path]:
    ages = list(range(20, 70, 10))
    return [dataset(tmp_path / name, name, ages, rng, labels=name == "A") for name in "AB"]


def run(command, *arguments: object) -> int:
    return command.main([str(argument) for argument in arguments])


def test_age_from_derivatives_to_a_table(sites: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    options = ["--task", "age", "--type", "regression", "--confound", "sex", "--unlearn-on", "overlap", *SHORT]
    assert run(train, "unlearn", *sites, tmp_path / "run", *options) == 0
    model = tmp_path / "run" / "model"
    assert Path(capsys.readouterr().out.strip()) == model
    card = json.loads((model / "card.json").read_text())
    assert card["license"] == "not stated"
    assert card["unlearned"] == ["site", "sex"]
    assert card["training"]["command"].startswith("imunity-train unlearn A B RUN --task age --type regression")
    assert set(card["sha256"]) == {"encoder", "head"}
    assert (tmp_path / "run" / "log.csv").exists()

    assert run(predict, model, *sites, tmp_path / "out") == 0
    for taken in (sites[0], tmp_path / "raw"):  # what is looked at, and somebody's raw data
        taken.mkdir(exist_ok=True)
        (taken / "dataset_description.json").write_text('{"Name": "mine"}')
        assert run(predict, model, *sites, taken) == 64
        assert (taken / "dataset_description.json").read_text() == '{"Name": "mine"}'
        (taken / "dataset_description.json").unlink()
    assert run(predict, model, *sites, tmp_path / "out") == 0  # its own output is welcome again
    assert run(predict, model, *sites, tmp_path / "out", "--device", "cuda:99") == 64
    table = pd.read_csv(tmp_path / "out" / "phenotype" / "age.tsv", sep="\t")
    assert len(table) == 10
    assert table.age.between(-100, 200).all()
    columns = json.loads((tmp_path / "out" / "phenotype" / "age.json").read_text())
    assert set(table) <= set(columns)


def test_tissues_where_one_site_has_no_labels(sites: list[Path], tmp_path: Path) -> None:
    options = ["--task", "dseg", "--type", "segmentation", "--place", "AB", *SHORT]
    assert run(train, "unlearn", *sites, tmp_path / "run", *options) == 0
    assert run(predict, tmp_path / "run" / "model", sites[1], tmp_path / "out") == 0
    path = tmp_path / "out/sub-B0/anat/sub-B0_space-MNI_res-1_desc-unlearned_dseg.nii.gz"
    image, source = nib.load(path), nib.load(next((sites[1] / "sub-B0" / "anat").glob("*_T1w.nii.gz")))
    assert image.shape == source.shape
    assert np.allclose(image.affine, source.affine)
    assert set(np.unique(image.dataobj)) <= {0, 1, 2}
    sidecar = json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text())
    assert sidecar["Sources"] == ["bids:B:sub-B0/anat/" + source.get_filename().rpartition("/")[2]]
    assert sidecar["LabelMap"] == {"0": "background", "1": "label 1", "2": "label 2"}
    assert json.loads((tmp_path / "out/dataset_description.json").read_text())["DatasetType"] == "derivative"


def test_sites_that_are_the_outcome_are_refused(
    tmp_path: Path, rng: np.random.Generator, capsys: pytest.CaptureFixture
) -> None:
    young, old = dataset(tmp_path / "A", "A", [20, 25, 30], rng), dataset(tmp_path / "B", "B", [60, 65, 70], rng)
    options = ["--task", "age", "--type", "regression", *SHORT]
    assert run(train, "unlearn", young, old, tmp_path / "run", *options) == 65
    said = capsys.readouterr().err
    assert "fully confounded" in said
    assert "--allow-confounded" in said
    assert run(train, "unlearn", young, old, tmp_path / "run", *options, "--allow-confounded") == 0


def test_sex_with_probabilities_and_a_scan_that_is_empty(sites: list[Path], tmp_path: Path) -> None:
    options = ["--task", "sex", "--type", "classification", *SHORT]
    assert run(train, "unlearn", *sites, tmp_path / "run", *options) == 0
    image = next((sites[0] / "sub-A0" / "anat").glob("*_T1w.nii.gz"))
    nib.save(nib.Nifti1Image(np.zeros((10, 10, 10), np.float32), np.eye(4)), image)
    assert run(predict, tmp_path / "run" / "model", *sites, tmp_path / "out") == 1
    table = pd.read_csv(tmp_path / "out" / "phenotype" / "sex.tsv", sep="\t")
    assert len(table) == 9
    assert (table.probability_F + table.probability_M).tolist() == pytest.approx([1] * 9, abs=1e-3)


def test_a_changed_model_is_not_used(sites: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(train, "unlearn", *sites, tmp_path / "run", "--task", "age", "--type", "regression", *SHORT) == 0
    model = tmp_path / "run" / "model"
    assert load_model(model).task.name == "age"
    with open(model / "head.safetensors", "r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))
    assert run(predict, model, sites[0], tmp_path / "out") == 65
    assert "damaged or was changed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--task", "height", "--type", "regression"], 64, "--task height"),
        (["--task", "age", "--type", "regression", "--unlearn-on", "age > 900"], 64, "selects nobody"),
        (["--task", "age", "--type", "regression", "--batch", "1"], 64, "do not fit into a batch of 1"),
        (["--task", "dseg", "--type", "segmentation", "--unlearn-on", "overlap"], 64, "takes all or a query"),
        (["--task", "T2w", "--type", "segmentation"], 66, "no scan has"),
        (["--task", "dseg", "--type", "segmentation", "--confound", "sex"], 64, "--confound"),
    ],
)
def test_errors_say_what_to_do(
    sites: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture, options: list[str], code: int, says: str
) -> None:
    assert run(train, "unlearn", *sites, tmp_path / "run", *SHORT, *options) == code
    said = capsys.readouterr().err.splitlines()[-1]
    assert says in said
    assert said.startswith("imunity-train: ")


@pytest.mark.parametrize("module", ["predict", "train_unlearn"])
def test_help_needs_nothing_heavy(module: str) -> None:
    code = f"import sys, imunity_bids.cli.{module}; print([n for n in {HEAVY} if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version(option: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stop:
        predict.main([option])
    assert stop.value.code == 0
    assert "imunity" in capsys.readouterr().out


@pytest.mark.parametrize("task", ["age", "sex"])
def test_real_scans_are_cross_validated_for_age_and_sex(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    sites = [dataset(tmp_path / name, name, list(range(20, 74, 6)), rng) for name in "AB"]
    short = replace(VOLUMES, spacing_mm=12.0, schedule=Schedule(4, pretrain=2, steps=2, every=1, patience=1))
    monkeypatch.setattr(unlearning, "QUICK", replace(QUICK, volumes=short))
    folders = ["--derivatives", *sites, "--tasks", task]
    assert run(evaluate, "unlearning", tmp_path / "out", "--quick", *folders) == 0
    rows = json.loads((tmp_path / "out" / "unlearning.json").read_text())
    assert [row["method"] for row in rows] == [NORMAL, UNLEARNED, DANN]
    assert {row["condition"] for row in rows} == {f"{task} on 18 real persons"}
    assert all(np.isfinite(list(row["error"].values())).all() and len(row["error"]) == 2 for row in rows)
    assert (tmp_path / "out" / f"scans_{task}_1.json").exists()
