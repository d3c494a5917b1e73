"""Masks on real heads: bars of the card, on a few of them; `imunity-evaluate brain` does it on all."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import reduce
from itertools import islice
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import binary_closing, binary_erosion, binary_fill_holes, uniform_filter, uniform_filter1d
from scipy.spatial.transform import Rotation

pytest.importorskip("monai", reason="evaluation needs the extra `train`")

from imunity_bids.errors import DataUnusable, InputMissing
from imunity_bids.evaluation.brain import Case, evaluate, network_method, real_cases, score
from imunity_bids.image.brain_mask import load_network, measure, network_mask
from imunity_bids.image.conform import conform, read_image
from imunity_bids.image.extraction import extract_brain
from imunity_bids.image.resample import resample
from imunity_bids.models.card import BRAIN_NETWORK

Form = Callable[[nib.Nifti1Image], nib.Nifti1Image]


def test_scores_of_a_mask_that_is_one_voxel_too_small(ball: np.ndarray) -> None:
    image = nib.Nifti1Image(ball.astype(np.float32), np.diag([3.5, 3.5, 3.5, 1]))
    small = binary_erosion(ball)
    numbers = score(Case("ball", "toy", image, ball), lambda i: measure(small, i, "toy"))
    assert numbers["dice"] == pytest.approx(2 * small.sum() / (small.sum() + ball.sum()))
    assert numbers["hd95"] == pytest.approx(3.5, rel=0.05)
    assert numbers["volume_ratio"] == pytest.approx(small.sum() / ball.sum())


def test_a_mask_that_cannot_be_made_has_a_dice_of_zero(ball: np.ndarray) -> None:
    def failing(_: nib.Nifti1Image) -> None:
        raise DataUnusable("no brain")

    image = nib.Nifti1Image(ball.astype(np.float32), np.eye(4))
    numbers = score(Case("ball", "toy", image, ball), failing)
    assert (numbers["dice"], numbers["verdict"], numbers["reason"]) == (0, "failed", "no brain")
    assert np.isnan(numbers["hd95"])


def test_the_summary_is_that_of_the_table(ball: np.ndarray, tmp_path: Path) -> None:
    image = nib.Nifti1Image(ball.astype(np.float32), np.diag([3.5, 3.5, 3.5, 1]))
    cases = [Case(f"ball-{number}", "toy", image, ball) for number in range(2)]
    small = binary_erosion(ball)
    methods = {"whole": lambda i: measure(ball, i, "toy"), "small": lambda i: measure(small, i, "toy")}
    summary = evaluate(iter(cases), methods, tmp_path)
    table = pd.read_csv(tmp_path / "brain.tsv", sep="\t")
    assert len(table) == 4
    expected = 2 * small.sum() / (small.sum() + ball.sum())
    assert summary.loc[("toy", "whole"), "dice_median"] == 1
    assert summary.loc[("toy", "small"), "dice_worst"] == pytest.approx(expected)
    assert summary.loc[("toy", "small"), "n"] == 2
    written = json.loads((tmp_path / "brain.json").read_text())
    assert written["toy/small"]["dice_p5"] == pytest.approx(expected)
    assert written["peak_memory_gb"] > 0


def test_scans_without_labels_are_left_out_and_none_at_all_is_an_error(tmp_path: Path) -> None:
    for subject in ("01", "02"):
        anat = tmp_path / f"sub-{subject}" / "anat"
        anat.mkdir(parents=True)
        volume = np.random.default_rng(0).uniform(1, 2, (40, 40, 40)).astype(np.float32)
        nib.Nifti1Image(volume, np.diag([3.0, 3, 3, 1])).to_filename(anat / f"sub-{subject}_T1w.nii.gz")
    labels = tmp_path / "labels" / "sub-02" / "anat"
    labels.mkdir(parents=True)
    truth = np.zeros((40, 40, 40), np.int16)
    truth[5:20] = 17
    nib.Nifti1Image(truth, np.diag([3.0, 3, 3, 1])).to_filename(labels / "sub-02_space-T1w_dseg.nii.gz")
    (case,) = real_cases(tmp_path, tmp_path / "labels")
    assert case.name == "sub-02_T1w"
    assert np.array_equal(case.truth, truth > 0)
    with pytest.raises(InputMissing, match="no T1w scan of"):
        list(real_cases(tmp_path, tmp_path / "nothing"))


def test_real_heads(data: Path) -> None:
    """Two of the card's 39; `imunity-evaluate brain` scores all of them."""
    cases = real_cases(data / "ixi-hh-2mm", data / "ixi-hh-2mm" / "derivatives" / "dlmuse")
    method = network_method(BRAIN_NETWORK, 0.0, "cpu")
    for case in islice(cases, 2):
        numbers = score(case, method)
        assert numbers["dice"] > 0.90, case.name
        assert numbers["verdict"] != "failed", case.name


def head_at_2mm(data: Path) -> nib.Nifti1Image:
    """A real head, its voxels joined to about 2 mm, where the network works anyway."""
    image, _ = conform(*read_image(data / "ds000011" / "sub-01" / "anat" / "sub-01_T1w.nii.gz"))
    voxels, zooms = np.asarray(image.dataobj), np.array(image.header.get_zooms()[:3])
    shape = tuple(np.ceil(np.array(voxels.shape) * zooms / 2).astype(int))
    grid = image.affine @ np.diag([*(2 / zooms), 1])
    return nib.Nifti1Image(resample(uniform_filter(voxels, 2), image.affine, shape, grid), grid)


def mirrored(image: nib.Nifti1Image) -> nib.Nifti1Image:
    return nib.Nifti1Image(np.ascontiguousarray(np.asarray(image.dataobj)[::-1]), image.affine)


def doubled(image: nib.Nifti1Image) -> nib.Nifti1Image:
    return nib.Nifti1Image(np.asarray(image.dataobj) * 2, image.affine)


def in_air(image: nib.Nifti1Image) -> nib.Nifti1Image:
    return nib.Nifti1Image(np.pad(np.asarray(image.dataobj), 20), image.affine)


def in_thick_slices(image: nib.Nifti1Image) -> nib.Nifti1Image:
    """Of 6 mm."""
    slices = uniform_filter1d(np.asarray(image.dataobj), 3, axis=2)[:, :, 1::3]
    return nib.Nifti1Image(np.ascontiguousarray(slices), image.affine @ np.diag([1.0, 1, 3, 1]))


def inverted(image: nib.Nifti1Image) -> nib.Nifti1Image:
    voxels = np.asarray(image.dataobj)
    top = np.percentile(voxels, 99.5)
    head = binary_fill_holes(binary_closing(voxels > 0.08 * top, iterations=2))
    return nib.Nifti1Image((np.clip(top - voxels, 0, None) * head).astype(np.float32), image.affine)


def nodding(image: nib.Nifti1Image) -> nib.Nifti1Image:
    return _turned(image, (30, 0, 0))


def tilted(image: nib.Nifti1Image) -> nib.Nifti1Image:
    return _turned(image, (0, 30, 0))


def turned(image: nib.Nifti1Image) -> nib.Nifti1Image:
    return _turned(image, (0, 0, 30))


def test_one_head_in_joined_forms_has_one_volume(data: Path) -> None:
    """The volume stays within 5 %; each form alone is in the slow test."""
    image, network = head_at_2mm(data), load_network()
    plain = network_mask(image, network).volume_ml
    for forms in ((mirrored, doubled, in_air, nodding), (in_thick_slices, turned), (inverted, tilted)):
        changed = reduce(lambda before, form: form(before), forms, image)
        names = [form.__name__ for form in forms]
        assert network_mask(changed, network).volume_ml == pytest.approx(plain, rel=0.05), names


@pytest.mark.slow
@pytest.mark.parametrize("form", [mirrored, doubled, in_air, in_thick_slices, inverted, nodding, tilted, turned])
def test_one_head_in_another_form_has_the_same_volume(data: Path, form: Form) -> None:
    image, network = head_at_2mm(data), load_network()
    plain = network_mask(image, network).volume_ml
    assert network_mask(form(image), network).volume_ml == pytest.approx(plain, rel=0.05)


def _turned(image: nib.Nifti1Image, angles: tuple[float, float, float], size: int = 120) -> nib.Nifti1Image:
    """The head turned about its middle (degrees about x, y, z), in a header that knows nothing of it."""
    grid = np.eye(4)
    grid[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * 2.0  # voxels of 2 mm
    middle = image.affine @ [*(np.array(image.shape) - 1) / 2, 1]
    grid[:3, 3] = middle[:3] - grid[:3, :3] @ np.full(3, (size - 1) / 2)
    straight = np.diag([2.0, 2, 2, 1])
    return nib.Nifti1Image(resample(np.asarray(image.dataobj), image.affine, (size,) * 3, grid), straight)


def check_method(data: Path, folder: str, subject: str, method: str) -> None:
    path = data / folder / f"sub-{subject}" / "anat" / f"sub-{subject}_T1w.nii.gz"
    assert extract_brain(conform(*read_image(path))[0]).method == method, path


def test_a_stripped_scan_is_recognised_and_a_head_is_not(data: Path) -> None:
    check_method(data, "ds002748", "01", "none")
    check_method(data, "ixi-hh-2mm", "IXI014", "network")


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "subject", "method"), [("ds002748", "33", "none"), ("ds000011", "01", "network")])
def test_other_scans_are_recognised_too(data: Path, folder: str, subject: str, method: str) -> None:
    check_method(data, folder, subject, method)
