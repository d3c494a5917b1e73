from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

pytest.importorskip("monai", reason="training needs the extra `train`")

from imunity_bids.errors import Usage
from imunity_bids.models.paper import PaperArchitecture
from imunity_bids.training.biology import BiologicalHeads, read_feature
from imunity_bids.training.dataset import Brain, load_brains
from imunity_bids.training.losses import PRESETS
from imunity_bids.training.paper import train_paper
from tests.training.toys import toy_brains, toy_plan


def people(column: str, values: list[str]) -> list[Brain]:
    return [Brain(f"b{i}", 0, torch.ones(2, 2, 2), {column: value}) for i, value in enumerate(values)]


def test_kinds_of_columns() -> None:
    binary = read_feature("sex", people("sex", ["F", "M", "n/a", "F"]))
    assert binary.task.classes == ("F", "M")
    assert binary.values[binary.known].tolist() == [0, 1, 0]
    kept = read_feature("diagnosis", people("diagnosis", ["none", "AD", "none"]))
    assert kept.known.all() and kept.task.classes == ("AD", "none")
    coded = read_feature("group", people("group", ["1", "2", "3", "1"]))
    assert (len(coded.task.classes), coded.values.tolist()) == (3, [0, 1, 2, 0])
    age = read_feature("age", people("age", ["20", "30", "40", "50", "60", "70", "n/a"]))
    assert age.task.kind == "regression"
    assert age.values[:6].mean() == pytest.approx(0, abs=1e-6)
    assert age.known.tolist() == [True] * 6 + [False]


@pytest.mark.parametrize("values", [["F", "F"], ["n/a", "F"]])
def test_a_column_that_says_nothing_is_refused(values: list[str]) -> None:
    with pytest.raises(Usage, match="--biology sex"):
        read_feature("sex", people("sex", values))


def test_who_is_unknown_does_not_count() -> None:
    feature = read_feature("sex", people("sex", ["F", "M", "n/a"]))
    heads = BiologicalHeads([feature], 16)
    code = torch.randn(3, 4, 2, 2)
    both, with_unknown = heads(code[:2], torch.tensor([0, 1])), heads(code, torch.tensor([0, 1, 2]))
    torch.testing.assert_close(both, with_unknown)
    assert heads(code[2:], torch.tensor([2])) == 0


def test_the_heads_learn_what_is_in_the_image(tmp_path: Path) -> None:
    """The ill have a dark core and are older: both heads learn it from the code."""
    known = []
    for index, brain in enumerate(toy_brains(6, 1)):
        ill = index % 2
        volume = brain.volume.clone()
        volume[:, 12:28, 12:28] *= 1 - 0.5 * ill
        known.append(
            replace(
                brain, volume=volume, traits={"status": "ill" if ill else "well", "age": str(20 + index + 40 * ill)}
            )
        )
    losses = replace(PRESETS["code"], adversarial=0, ssim=0, biological=10)
    plan = toy_plan(
        tmp_path, architecture=PaperArchitecture(width=8), weights=losses, steps=120, batch=12, every=40, rate=4e-3
    )
    train_paper(plan, known, 1, known, tuple(read_feature(name, known) for name in ("status", "age")))
    rows = torch.load(tmp_path / "last.pt", weights_only=True)["rows"]
    chance = np.log(2) + 1  # guessing the status, and the mean age
    assert rows[-1]["biological"] < 0.75 * chance  # a crop at the rim shows little of the core


def test_participants_of_the_raw_dataset_are_found(tmp_path: Path) -> None:
    raw, out = tmp_path / "my data", tmp_path / "out"
    for folder in (raw, out):
        folder.mkdir()
    (raw / "participants.tsv").write_text("participant_id\tage\tsite\nsub-1\t33\tA\n")
    (out / "dataset_description.json").write_text(json.dumps({"DatasetLinks": {"raw": raw.as_uri()}}))
    nib.Nifti1Image(np.full((4, 4, 4), 0.5, np.float32), np.eye(4)).to_filename(
        out / "sub-1_space-X_desc-preproc_T1w.nii.gz"
    )
    (brain,), sites = load_brains([out])
    assert brain.traits["age"] == "33"
    assert sites == ["A"]
