"""The field through white matter: taken away however strong, none made where there is none, nothing invented."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage
from threadpoolctl import threadpool_limits

from imunity_bids.errors import DataUnusable
from imunity_bids.image.bias_field import overlaps, smoothed, unbiased, white_map
from imunity_bids.image.template import Template, built_in
from imunity_bids.image.white_stripe import white_stripe

STEP = 3  # mm


@pytest.fixture(scope="module")
def template() -> Template:
    """The built-in one at 3 mm: seconds instead of half a minute."""
    full = built_in()
    mask = full.mask[::STEP, ::STEP, ::STEP]
    brain = ndimage.gaussian_filter(np.asarray(full.brain.dataobj), 1)[::STEP, ::STEP, ::STEP] * mask
    return Template("tiny", nib.Nifti1Image(brain, full.brain.affine @ np.diag([STEP, STEP, STEP, 1])), mask)


@pytest.fixture(scope="module")
def field(template: Template) -> np.ndarray:
    """Darker by half at the front than at the back, and from left to right by a quarter."""
    x, y, _ = np.meshgrid(*(np.linspace(-1, 1, n) for n in template.mask.shape), indexing="ij")
    return np.exp(-0.45 * y + 0.15 * x).astype(np.float32)


@pytest.fixture
def white(template: Template) -> np.ndarray:
    return smoothed(template.white_core)


def image_of(template: Template, field: np.ndarray | float = 1.0) -> nib.Nifti1Image:
    data = (np.asarray(template.brain.dataobj) * field).astype(np.float32)
    return nib.Nifti1Image(data, template.brain.affine)


def unevenness(image: np.ndarray, template: Template) -> float:
    """Standard deviation of white matter, relative to its mean."""
    white = image[template.white_core]
    return float(white.std() / white.mean())


def test_the_white_core_is_white_matter() -> None:
    template = built_in()
    data, core = np.asarray(template.brain.dataobj), template.white_core
    peak = white_stripe(data, template.mask).peak
    assert data[core].min() > 0.9 * peak
    assert 0.15 < core.sum() / template.mask.sum() < 0.35  # a third of the brain is white, less its borders
    assert (core & ~template.mask).sum() == 0


def test_a_strong_field_is_found(template: Template, field: np.ndarray, white: np.ndarray) -> None:
    even, uneven = image_of(template), image_of(template, field)
    made = unbiased(uneven, template.mask, white, "white-matter")
    assert made.method == "smooth field through white matter"
    assert made.image.dtype == np.float32
    raw = np.asarray(uneven.dataobj)
    assert made.image[template.mask].mean() == pytest.approx(raw[template.mask].mean(), rel=1e-4)
    np.testing.assert_allclose(made.image * made.field, raw, atol=1e-4 * raw.max())
    assert unevenness(made.image, template) < 1.3 * unevenness(np.asarray(even.dataobj), template)
    own = unbiased(even, template.mask, white, "white-matter").field  # the template's own regions of white matter
    left = np.log(made.field / (field * own))[template.mask]
    assert left.std() < 0.2 * np.log(field[template.mask]).std()


def test_an_even_brain_stays_so(template: Template, white: np.ndarray) -> None:
    """What the template itself has of regional differences in white matter, a few per cent, is all it takes away."""
    made = unbiased(image_of(template), template.mask, white, "white-matter")
    assert np.log(made.field[template.mask]).std() < 0.04


def test_a_lesion_is_not_taken_for_a_field(template: Template, field: np.ndarray, white: np.ndarray) -> None:
    """A ball of 24 mm in white matter as dark as gray matter: the field is the one without it, within 2 %."""
    middle = np.argwhere(template.white_core)[len(np.argwhere(template.white_core)) // 2]
    where = (
        sum((g - m) ** 2 for g, m in zip(np.ogrid[tuple(map(slice, template.mask.shape))], middle, strict=True)) <= 16
    )
    healthy, ill = (
        unbiased(image_of(template, field * factor), template.mask, white, "white-matter").field
        for factor in (1.0, np.where(where, 0.6, 1.0))
    )
    ratio = np.log(ill / healthy)[template.mask]
    assert (ratio - np.median(ratio)).std() < 0.02


def test_outside_the_brain_the_field_goes_on_but_does_not_run_away(
    template: Template, field: np.ndarray, white: np.ndarray
) -> None:
    """A scalp around the brain: no step at the mask's edge, and nothing brighter than the brain's field makes it."""
    shell = ndimage.binary_dilation(template.mask, iterations=4) & ~template.mask
    data = (np.asarray(template.brain.dataobj) + 0.8 * shell) * field
    made = unbiased(nib.Nifti1Image(data, template.brain.affine), template.mask, white, "white-matter").field
    inside = made[template.mask]
    assert inside.min() * 0.999 <= made[shell].min() and made[shell].max() <= inside.max() * 1.001
    edge = ndimage.binary_dilation(template.mask) & ~template.mask
    rim = template.mask & ~ndimage.binary_erosion(template.mask)
    assert made[edge].mean() == pytest.approx(made[rim].mean(), rel=0.03)


def test_the_map_of_white_matter_follows_the_transform(template: Template, tmp_path: Path) -> None:
    import ants

    path = tmp_path / "identity.mat"
    ants.write_transform(ants.create_ants_transform(transform_type="AffineTransform", dimension=3), str(path))
    np.testing.assert_allclose(white_map(template, template.brain, path), smoothed(template.white_core), atol=1e-3)


def test_masks_that_do_not_lie_on_each_other_say_nothing(template: Template) -> None:
    assert overlaps(template.mask, template)
    assert not overlaps(np.roll(template.mask, 20, axis=0), template)


@pytest.mark.parametrize(("method", "text"), [("plain", "N4"), ("none", "none")])
def test_other_methods_say_their_names(template: Template, field: np.ndarray, method: str, text: str) -> None:
    image = image_of(template, field)
    made = unbiased(image, template.mask, None, method)
    assert made.method == text
    same = np.array_equal(made.image, np.asarray(image.dataobj))
    assert same == (method == "none")
    np.testing.assert_allclose(made.image * made.field, np.asarray(image.dataobj), rtol=1e-3, atol=1e-3)


def test_without_white_matter_it_is_plain_n4_and_says_so(template: Template, field: np.ndarray) -> None:
    image = image_of(template, field)
    for white in (None, np.zeros(template.mask.shape, np.float32)):
        made = unbiased(image, template.mask, white, "white-matter")
        assert made.method == "N4 (the template does not tell where white matter lies)"


def test_a_brain_without_contrast_has_no_field_to_be_found(template: Template, white: np.ndarray) -> None:
    with pytest.raises(DataUnusable, match="bias field could not be estimated"):
        unbiased(image_of(template, 0.0), template.mask, white, "white-matter")


def test_the_core_is_cut_as_the_image_was(template: Template) -> None:
    """Persons are cut to their brains; on another grid nothing is said, rather than something wrong."""
    cut = template.brain.slicer[5:40, 3:50, 2:30]
    np.testing.assert_array_equal(template.core_on(cut), template.white_core[5:40, 3:50, 2:30])
    assert template.core_on(nib.Nifti1Image(np.zeros(cut.shape), cut.affine + 1e-6)) is not None
    coarse = replace(template).brain.affine @ np.diag([2, 2, 2, 1])
    assert template.core_on(nib.Nifti1Image(np.zeros((9, 9, 9)), coarse)) is None
    beside = template.brain.affine.copy()
    beside[0, 3] += STEP * template.mask.shape[0]
    assert template.core_on(nib.Nifti1Image(np.zeros((9, 9, 9)), beside)) is None


def test_the_field_does_not_depend_on_the_number_of_threads(
    template: Template, field: np.ndarray, white: np.ndarray
) -> None:
    """Bit for bit: BLAS adds in another order with two threads, and the fit made 0.2 % of the image of that."""
    image = image_of(template, field)
    fields = []
    for threads in (1, 2):
        with threadpool_limits(threads, "blas"):
            fields.append(unbiased(image, template.mask, white, "white-matter").field)
    np.testing.assert_array_equal(*fields)


@pytest.mark.parametrize("method", ["white-matter", "plain"])
def test_what_is_not_seen_tells_nothing(method: str, rng: np.random.Generator) -> None:
    """The field of an image is the same whatever lies in its lesion."""
    size = 48
    grid = np.indices((size,) * 3) - (size - 1) / 2
    radius = np.sqrt((grid**2).sum(0))
    mask, white = radius < 20, np.clip((14 - radius) / 2, 0, 1).astype(np.float32)
    lesion = ((grid - np.array([6, 0, 0])[:, None, None, None]) ** 2).sum(0) < 5**2
    data = np.where(radius < 14, 100.0, 60.0) * (1 + 0.01 * grid[0]) + rng.normal(0, 1, mask.shape)

    def field(level: float, seen: np.ndarray) -> np.ndarray:
        image = nib.Nifti1Image(np.where(lesion, level, data).astype(np.float32), np.diag([4, 4, 4, 1]))
        return unbiased(image, mask, white, method, seen).field[mask & ~lesion]

    dark, bright = (field(level, mask & ~lesion) for level in (5.0, 150.0))
    np.testing.assert_allclose(dark, bright, rtol=1e-4)
    assert np.abs(field(5.0, mask) / field(150.0, mask) - 1).mean() > 0.001
