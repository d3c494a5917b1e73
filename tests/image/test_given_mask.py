"""Masks of others: moved to the scan's grid where that can be, refused where it cannot."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from imunity_bids.errors import DataUnusable
from imunity_bids.image.conform import conform, read_image
from imunity_bids.image.extraction import brain_of_file
from imunity_bids.image.given_mask import mask_on

AFFINE = np.array([[2.0, 0, 0, -60], [0, 2.0, 0, -50], [0, 0, 2.0, -40], [0, 0, 0, 1]])


@pytest.fixture
def scan(ball: np.ndarray) -> nib.Nifti1Image:
    """A head of 2 mm: dim around, bright in the ball."""
    data = (80 * ndimage.binary_dilation(ball, iterations=3) + 400 * ball).astype(np.float32)
    return nib.Nifti1Image(data, AFFINE)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mask.nii.gz"


def save(path: Path, mask: np.ndarray, affine: np.ndarray, code: int = 1) -> None:
    image = nib.Nifti1Image(mask.astype(np.uint8), affine)
    image.set_sform(affine, code)
    image.set_qform(affine, code)
    image.to_filename(path)


def test_the_same_grid_with_other_axes(scan: nib.Nifti1Image, ball: np.ndarray, path: Path) -> None:
    odd = ball.copy()
    odd[:30, :25] = False
    save(path, odd, AFFINE)
    lps = nib.load(path).as_reoriented(np.array([[1, -1], [0, -1], [2, 1]]))
    assert nib.aff2axcodes(lps.affine) != nib.aff2axcodes(AFFINE)
    lps.to_filename(path)
    np.testing.assert_array_equal(mask_on(scan, path), odd)


def test_another_grid_of_the_same_space(scan: nib.Nifti1Image, ball: np.ndarray, path: Path) -> None:
    """1.5 mm, with a margin cut off: the ball is where it was."""
    fine = np.diag([1.5, 1.5, 1.5, 1])
    fine[:3, 3] = [-45, -35, -25]
    shape = (60, 60, 60)
    world = np.moveaxis(np.indices(shape), 0, -1) @ fine[:3, :3] + fine[:3, 3]
    centre = AFFINE[:3, :3] @ np.full(3, 29.5) + AFFINE[:3, 3]
    save(path, ((world - centre) ** 2).sum(-1) < 40**2, fine)
    made = mask_on(scan, path)
    assert 2 * (made & ball).sum() / (made.sum() + ball.sum()) > 0.985


def test_a_lesion_smaller_than_a_voxel_does_not_vanish(scan: nib.Nifti1Image, path: Path) -> None:
    fine = np.diag([0.5, 0.5, 0.5, 1])
    fine[:3, 3] = AFFINE[:3, :3] @ np.array([29.0, 30, 31]) + AFFINE[:3, 3] - 1.0
    small = np.zeros((20, 20, 20))
    small[2, 2, 2] = 1
    save(path, small, fine)
    assert mask_on(scan, path, touched=0.1).sum() >= 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: (m & False, AFFINE, 1), "the mask is empty"),
        (lambda m: (m, AFFINE + np.outer([1, 0, 0, 0], [0, 0, 0, 45.0]), 1), "lies inside the scan"),
        (lambda m: (m[:-1], AFFINE, 0), "no sform and no qform"),
        (lambda m: (np.stack([m, m], -1), AFFINE, 1), "not one volume"),
    ],
    ids=["empty", "shifted", "no orientation", "two volumes"],
)
def test_what_cannot_be_its_mask(scan: nib.Nifti1Image, ball: np.ndarray, path: Path, change, words: str) -> None:
    save(path, *change(ball))
    with pytest.raises(DataUnusable, match=words):
        mask_on(scan, path)


def test_a_mask_without_orientation_on_the_scans_own_grid(scan: nib.Nifti1Image, ball: np.ndarray, path: Path) -> None:
    """Where the scan's header says nothing either, the two agree."""
    head = path.with_name("head.nii")
    for file, data in ((head, scan.get_fdata(dtype=np.float32)), (path, ball.astype(np.uint8))):
        bare = nib.Nifti1Image(data, AFFINE)
        bare.set_sform(None, 0)
        bare.set_qform(None, 0)
        bare.to_filename(file)
    conformed, fixes = conform(*read_image(head))
    assert "no sform and no qform" in fixes[0]
    assert mask_on(conformed, path).sum() == ball.sum()


def test_a_brain_mask_is_measured_and_left_as_it_is(scan: nib.Nifti1Image, ball: np.ndarray, path: Path) -> None:
    with_hole = ball.copy()
    with_hole[28:31, 28:31, 28:31] = False
    with_hole[2:4, 2:4, 2:4] = True
    save(path, with_hole, AFFINE)
    brain = brain_of_file(scan, path)
    np.testing.assert_array_equal(brain.mask, with_hole)
    assert brain.volume_ml == pytest.approx(with_hole.sum() * 0.008)
    assert brain.stray_share == pytest.approx(8 / with_hole.sum(), rel=0.01)
    save(path, np.roll(ball, 9, 0) & ~ball, AFFINE)
    with pytest.raises(DataUnusable, match="dark in"):
        brain_of_file(scan, path)
