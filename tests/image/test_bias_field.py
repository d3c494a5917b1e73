"""A strong field: plain N4 leaves it, the template's white matter shows that, and N4 with weights takes it away."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from imunity_bids.errors import DataUnusable
from imunity_bids.image.ants_bridge import bias_corrected
from imunity_bids.image.bias_field import field_is_left, refined
from imunity_bids.image.template import Template, built_in
from imunity_bids.image.white_stripe import white_stripe
from imunity_bids.interfaces.preprocess import RefineBias

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
def identity(tmp_path: Path) -> Path:
    import ants

    path = tmp_path / "identity.mat"
    ants.write_transform(ants.create_ants_transform(transform_type="AffineTransform", dimension=3), str(path))
    return path


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


def test_a_field_is_seen_and_taken_away(template: Template, field: np.ndarray, identity: Path) -> None:
    even = np.asarray(template.brain.dataobj)
    image = nib.Nifti1Image(even * field, template.brain.affine)
    assert not field_is_left(even, template.mask, template)
    assert field_is_left(np.asarray(image.dataobj), template.mask, template)
    made = refined(image, template.mask, template, identity)
    assert made.dtype == np.float32
    assert made[template.mask].mean() == pytest.approx(np.asarray(image.dataobj)[template.mask].mean(), rel=1e-4)
    before, after = unevenness(np.asarray(image.dataobj), template), unevenness(made, template)
    assert after < 0.35 * before
    assert after < 2 * unevenness(even, template)
    assert not field_is_left(made, template.mask, template)


def test_outside_the_brain_the_field_goes_on_but_does_not_run_away(
    template: Template, field: np.ndarray, identity: Path
) -> None:
    """A scalp around the brain: no step at the mask's edge, and nothing brighter than the brain's field makes it."""
    shell = ndimage.binary_dilation(template.mask, iterations=4) & ~template.mask
    data = (np.asarray(template.brain.dataobj) + 0.8 * shell) * field
    made = refined(nib.Nifti1Image(data, template.brain.affine), template.mask, template, identity)
    estimate = np.where(made > 0, data / np.maximum(made, 1e-6), 1)
    inside = estimate[template.mask & (data > 0.1)]
    assert inside.min() * 0.999 <= estimate[shell].min() and estimate[shell].max() <= inside.max() * 1.001
    edge = ndimage.binary_dilation(template.mask) & ~template.mask
    rim = template.mask & ~ndimage.binary_erosion(template.mask) & (data > 0.1)
    assert estimate[edge].mean() == pytest.approx(estimate[rim].mean(), rel=0.03)


def test_where_the_registration_failed_the_template_says_nothing(template: Template, field: np.ndarray) -> None:
    moved = np.asarray(template.brain.dataobj) * field
    shifted = np.roll(template.mask, 20, axis=0)
    assert not field_is_left(moved, shifted, template)


def test_a_brain_without_contrast_has_no_field_to_be_found(template: Template) -> None:
    flat = nib.Nifti1Image(np.zeros(template.mask.shape, np.float32), template.brain.affine)
    with pytest.raises(DataUnusable, match="bias field could not be estimated"):
        bias_corrected(flat, template.mask, template.white_core.astype(np.float32))


def test_the_step_passes_on_what_needs_no_more(
    template: Template, field: np.ndarray, identity: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit the same file; and where a field was left, a new one on both grids."""
    monkeypatch.setattr("imunity_bids.image.template.load_template", lambda name: template)
    affine, even = template.brain.affine, np.asarray(template.brain.dataobj)
    paths = {}
    for name, data in {"even": even, "uneven": even * field, "mask": template.mask.astype(np.uint8)}.items():
        paths[name] = tmp_path / f"{name}.nii"
        nib.Nifti1Image(data, affine).to_filename(paths[name])

    def step(image: str) -> dict:
        common = {"mask": paths["mask"], "moved_mask": paths["mask"], "forward": identity, "backward": identity}
        files = {"conformed": paths[image], "corrected": paths[image], "moved": paths[image], **common}
        made = RefineBias(template="tiny", **{name: str(path) for name, path in files.items()})
        return made.work(tmp_path)

    kept = step("even")
    assert (kept["corrected"], kept["moved"], kept["info"]) == (*[str(paths["even"])] * 2, {"method": "N4"})
    again = step("uneven")
    assert "weighted" in again["info"]["method"]
    for name in ("corrected", "moved"):
        image = nib.load(again[name])
        assert unevenness(np.asarray(image.dataobj), template) < 0.5 * unevenness(even * field, template)
