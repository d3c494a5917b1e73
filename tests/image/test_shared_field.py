"""What fields of one person's scans differ by is found, whoever is first; what changed in the brain is no field."""

from __future__ import annotations

from itertools import permutations

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from imunity_bids.errors import DataUnusable
from imunity_bids.image.shared_field import deviations

MM, SHAPE = 2.0, (60, 72, 60)
GRAY, WHITE, FLUID = 0.62, 0.95, 0.22


def mm() -> np.ndarray:
    """From the middle, (3, X, Y, Z)."""
    return MM * (np.indices(SHAPE) - np.array(SHAPE).reshape(3, 1, 1, 1) / 2)


def brain(ventricle_mm: float = 14.0) -> tuple[np.ndarray, np.ndarray]:
    """White matter in gray matter, folded, around a ventricle; and the mask."""
    place = mm()
    depth = 52 - np.linalg.norm(place * np.array([1.0, 0.85, 1.1]).reshape(3, 1, 1, 1), axis=0)
    folds = 6 * np.sin(place[0] / 7) * np.sin(place[1] / 7) * np.sin(place[2] / 7)
    image = np.where(depth > 9 + folds, WHITE, GRAY)
    image[np.linalg.norm(place, axis=0) < ventricle_mm] = FLUID
    mask = depth > 0
    return ndimage.gaussian_filter(image * mask, 0.7), mask


def seen(image: np.ndarray, log_field: np.ndarray | float, seed: int, gain: float = 1.0) -> nib.Nifti1Image:
    noise = 0.015 * np.random.default_rng(seed).standard_normal(SHAPE)
    data = gain * (image * np.exp(log_field) + noise).clip(0)
    return nib.Nifti1Image(data.astype(np.float32), np.diag([MM, MM, MM, 1]))


def inside(deviation: nib.Nifti1Image, mask: np.ndarray) -> np.ndarray:
    """Its values in the mask."""
    voxels = nib.affines.apply_affine(np.linalg.inv(deviation.affine) @ np.diag([MM, MM, MM, 1]), np.argwhere(mask))
    return ndimage.map_coordinates(np.asarray(deviation.dataobj), voxels.T, order=1)


def bumps() -> list[np.ndarray]:
    """Log fields of a few tenths of a percent to percent, one of them as wide as a thalamus."""
    place = mm()
    bump = np.exp(-0.5 * ((place - np.array([0, -20, 0]).reshape(3, 1, 1, 1)) ** 2).sum(0) / 14**2)
    return [0.02 * bump, 0.015 * np.sin(place[1] / 30), -0.01 * np.cos(place[0] / 25)]


def test_the_difference_of_fields_is_found_and_the_gain_is_not() -> None:
    image, mask = brain()
    fields = bumps()
    scans = [seen(image, field, seed, gain) for seed, (field, gain) in enumerate(zip(fields, (1, 3, 0.5), strict=True))]
    found = [inside(part, mask) for part in deviations(scans, mask)]
    assert np.abs(np.sum(found, axis=0)).max() < 1e-6
    for part, field in zip(found, fields, strict=True):
        true = (field - np.mean(fields, axis=0))[mask]
        left = part - true
        assert left.std() < 0.35 * true.std()


def test_nobody_is_the_target() -> None:
    image, mask = brain()
    scans = [seen(image, field, seed) for seed, field in enumerate(bumps())]
    known = [np.asarray(part.dataobj) for part in deviations(scans, mask)]
    for order in permutations(range(3)):
        found = deviations([scans[index] for index in order], mask)
        for index, part in zip(order, found, strict=True):
            np.testing.assert_allclose(np.asarray(part.dataobj), known[index], atol=1e-5)


def test_a_ventricle_that_grew_is_no_field() -> None:
    """By a millimetre all around, which is a fifth of its volume: tissue became as dark as a third of it."""
    (small, mask), (large, _) = brain(14.0), brain(15.0)
    assert np.abs(np.log(large[mask] / small[mask])).max() > 0.5
    first, second = deviations([seen(small, 0.0, 1), seen(large, 0.0, 2)], mask)
    assert np.abs(inside(first, mask)).max() < 0.004
    near = np.linalg.norm(mm(), axis=0)[mask] < 20
    assert abs(inside(second, mask)[near].mean()) < 0.001


def test_far_from_the_brain_nothing_is_corrected() -> None:
    image, mask = brain()
    for deviation in deviations([seen(image, field, 1) for field in bumps()], mask):
        data = np.asarray(deviation.dataobj)
        for axis in range(3):
            assert np.abs(data.take([0, -1], axis)).max() < 1e-6
        assert np.isfinite(data).all()


def test_one_scan_twice_differs_by_nothing() -> None:
    image, mask = brain()
    scan = seen(image, 0.0, 1)
    assert all(not np.asarray(part.dataobj).any() for part in deviations([scan, scan], mask))


@pytest.mark.parametrize(("darker", "taken_for_field"), [(0.2, False), (0.01, True)])
def test_a_lesion_is_taken_for_field_only_where_it_is_faint_and_nobody_marked_it(
    darker: float, taken_for_field: bool
) -> None:
    image, mask = brain()
    lesion = np.linalg.norm(mm() - np.array([25, 0, 0]).reshape(3, 1, 1, 1), axis=0) < 16
    scans = [seen(image, 0.0, 1), seen(np.where(lesion, (1 - darker) * image, image), 0.0, 2)]
    unmarked, marked = (np.abs(inside(deviations(scans, where)[0], lesion)).max() for where in (mask, mask & ~lesion))
    assert marked < 0.002
    assert (unmarked > 0.002) == taken_for_field


def test_scans_without_tissue_in_common_are_told() -> None:
    image, mask = brain()
    with pytest.raises(DataUnusable, match="too little tissue"):
        deviations([seen(image, 0.0, 1)] * 2, mask & (np.arange(SHAPE[0]) == 30)[:, None, None] & (image < 0.3))
