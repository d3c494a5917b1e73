"""Volumes of known mixtures of tissues."""

from __future__ import annotations

import numpy as np
import pytest

from imunity_bids.metrics.volumes import tissue_volumes

LEVELS = (0.2, 0.5, 0.7)  # of CSF, gray and white matter


def slabs() -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """6,000 voxels of CSF, 18,000 of gray, 12,000 of white matter; the mask; and voxels well inside each, in that order
    along the first axis."""
    image = np.broadcast_to(np.repeat(LEVELS, [5, 15, 10])[:, None, None], (30, 40, 30)).astype(np.float32)
    where = np.arange(30)[:, None, None] + np.zeros(image.shape, int)
    inside = {"csf": where < 4, "gray": (where > 6) & (where < 18), "white": where > 22}
    return image, np.ones(image.shape, bool), inside


def test_volumes_of_pure_tissues() -> None:
    assert tissue_volumes(*slabs()) == pytest.approx({"csf": 6000, "gray": 18000, "white": 12000})


def test_a_voxel_on_a_border_is_of_the_nearer_tissue() -> None:
    image, mask, inside = slabs()
    image = image.copy()
    image[5] = 0.34  # just nearer to CSF
    image[19] = 0.61  # just nearer to white matter
    expected = {"csf": 6000 + 1200, "gray": 18000 - 2400, "white": 12000 + 1200}
    assert tissue_volumes(image, mask, inside) == expected


def test_a_curve_keeps_the_order_of_persons() -> None:
    """What harmonization does: one bend for all, after which a mixture of Gaussians would put borders elsewhere."""
    image, mask, inside = slabs()
    before, after = [], []
    for widened in range(3):  # slabs of CSF
        person = image.copy()
        person[5 : 5 + widened] = 0.2
        before.append(tissue_volumes(person, mask, inside)["csf"])
        after.append(tissue_volumes(person**1.4, mask, inside)["csf"])
    assert before == after == [6000, 7200, 8400]


def test_volumes_do_not_depend_on_linear_contrast() -> None:
    image, mask, inside = slabs()
    noisy = image + 0.03 * np.random.default_rng(1).standard_normal(image.shape).astype(np.float32)
    before, after = (tissue_volumes(one, mask, inside) for one in (noisy, 0.2 + 0.7 * noisy))
    assert after == pytest.approx(before, rel=1e-3)  # single voxels next to a border
    assert sum(after.values()) == pytest.approx(mask.sum())


def test_only_voxels_of_the_mask_are_counted() -> None:
    image, mask, inside = slabs()
    mask[:, 20:] = False
    assert tissue_volumes(image, mask, inside) == pytest.approx({"csf": 3000, "gray": 9000, "white": 6000})


@pytest.mark.parametrize("order", [(0.7, 0.5, 0.2), (0.2, 0.8, 0.7)])
def test_other_contrasts_have_no_volumes(order: tuple[float, ...]) -> None:
    """T2-weighted, or gray matter brighter than white: levels in another order."""
    image, mask, inside = slabs()
    other = np.select([image == np.float32(level) for level in LEVELS], order)
    assert np.isnan(list(tissue_volumes(other, mask, inside).values())).all()


def test_without_a_tissue_there_are_no_volumes() -> None:
    image, mask, inside = slabs()
    nothing = {**inside, "csf": np.zeros(mask.shape, bool)}
    assert np.isnan(list(tissue_volumes(image, mask, nothing).values())).all()
