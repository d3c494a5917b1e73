"""Brains from folders, sites, and who is held out."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from imunity_bids.errors import InputMissing
from imunity_bids.training.dataset import Brain, hold_out, load_brains
from tests.training.toys import toy_brains, write_brains


def test_a_folder_is_a_site_where_no_table_says_otherwise(tmp_path: Path) -> None:
    toys = toy_brains(4, 2, 24)
    brains, sites = load_brains(write_brains(toys, tmp_path))
    assert sites == ["site-0", "site-1"]
    assert [(brain.name, brain.site) for brain in brains] == [
        ("b0.nii.gz", 0), ("b2.nii.gz", 0), ("b1.nii.gz", 1), ("b3.nii.gz", 1),
    ]  # fmt: skip
    inside = toys[2].volume > 0
    box = tuple(slice(int(i.min()), int(i.max()) + 1) for i in torch.where(inside))
    assert torch.equal(brains[1].volume, toys[2].volume[box])  # cropped to what is not 0
    assert brains[0].zooms == (1, 1, 1)


def test_a_column_of_participants_names_the_sites_across_folders(tmp_path: Path) -> None:
    for folder, rows in (("one", "sub-1\tA\nsub-2\tB\n"), ("two", "sub-1\tB\n")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "participants.tsv").write_text("participant_id\tscanner\n" + rows)
        for line in rows.split():
            if line.startswith("sub"):
                image = nib.Nifti1Image(np.ones((3, 3, 3), np.float32), np.diag([2.0, 1, 1, 1]))
                image.to_filename(tmp_path / folder / f"{line}_space-X_res-1_desc-preproc_T1w.nii.gz")
    brains, sites = load_brains([tmp_path / "one", tmp_path / "two"], "scanner")
    assert sites == ["A", "B"]
    assert [brain.site for brain in brains] == [0, 1, 1]
    assert [brain.traits["participant_id"] for brain in brains] == ["sub-1", "sub-2", "sub-1"]
    assert brains[0].zooms == (2, 1, 1)


def test_derivatives_come_before_loose_volumes_and_patterns_leave_out(tmp_path: Path) -> None:
    for name in (
        "sub-1/anat/sub-1_space-X_res-1_desc-preproc_T1w",
        "sub-2/anat/sub-2_space-X_res-1_desc-preproc_T1w",
        "x",
    ):
        path = tmp_path / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.Nifti1Image(np.ones((3, 3, 3), np.float32), np.eye(4)).to_filename(path)
    brains, _ = load_brains([tmp_path], exclude=["sub-2/*/*"])
    assert [brain.name for brain in brains] == ["sub-1_space-X_res-1_desc-preproc_T1w.nii.gz"]


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputMissing, match=f"{tmp_path} holds no white-striped volume"):
        load_brains([tmp_path])


@pytest.mark.parametrize(("count", "held_out"), [(1, ["b4", "b5"]), (2, ["b2", "b4", "b3", "b5"])])
def test_the_last_of_every_site_are_held_out(count: int, held_out: list[str]) -> None:
    brains = toy_brains(6, 2, 8)
    training, kept = hold_out(brains, count)
    assert [brain.name for brain in kept] == held_out
    assert {brain.name for brain in training} == {brain.name for brain in brains} - set(held_out)


def test_a_site_that_is_too_small_holds_none_out() -> None:
    brains = [Brain("a", 0, torch.ones(1)), Brain("b", 1, torch.ones(1)), Brain("c", 1, torch.ones(1))]
    training, kept = hold_out(brains, 1)
    assert [brain.name for brain in training] == ["a", "b"]
    assert [brain.name for brain in kept] == ["c"]


@pytest.mark.parametrize("count", [0, 3])
def test_where_nobody_can_be_held_out_all_are_in_both(count: int) -> None:
    brains = toy_brains(6, 2, 8)
    assert hold_out(brains, count) == (brains, brains)
