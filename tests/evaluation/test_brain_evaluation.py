"""Masks on real heads: bars of the card, on a few of them; `imunity-evaluate brain` does it on all."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

pytest.importorskip("monai", reason="evaluation needs the extra `train`")

from imunity_bids.evaluation.brain import Case, network_method, real_cases, score
from imunity_bids.image.brain_mask import load_network, measure, network_mask
from imunity_bids.image.conform import conform, read_image
from imunity_bids.image.extraction import extract_brain
from imunity_bids.image.resample import resample
from imunity_bids.models.card import BRAIN_NETWORK


def test_scores_of_a_mask_that_is_one_voxel_too_small(ball: np.ndarray) -> None:
    from scipy.ndimage import binary_erosion

    image = nib.Nifti1Image(ball.astype(np.float32), np.diag([3.5, 3.5, 3.5, 1]))
    small = binary_erosion(ball)
    numbers = score(Case("ball", "toy", image, ball), lambda i: measure(small, i, "toy"))
    assert numbers["dice"] == pytest.approx(2 * small.sum() / (small.sum() + ball.sum()))
    assert numbers["hd95"] == pytest.approx(3.5, rel=0.05)
    assert numbers["volume_ratio"] == pytest.approx(small.sum() / ball.sum())


def test_real_heads(data: Path) -> None:
    cases = real_cases(data / "ixi-hh-2mm", data / "ixi-hh-2mm" / "derivatives" / "dlmuse")
    method = network_method(BRAIN_NETWORK, 0.0, "cpu")
    for case, _ in zip(cases, range(4), strict=False):
        numbers = score(case, method)
        assert numbers["dice"] > 0.90, case.name
        assert numbers["verdict"] != "failed", case.name


def test_one_head_in_many_forms_has_one_volume(data: Path) -> None:
    """Mirrored, doubled, in slices of 5 mm, turned by 30°, inverted, in much air: the volume stays within 5 %."""
    from scipy.ndimage import binary_closing, binary_fill_holes, uniform_filter1d

    image, _ = conform(*read_image(data / "ds000011" / "sub-01" / "anat" / "sub-01_T1w.nii.gz"))
    voxels = np.asarray(image.dataobj)
    network = load_network()
    step = round(5 / image.header.get_zooms()[2])
    slices = uniform_filter1d(voxels, step, axis=2)[:, :, step // 2 :: step]
    top = np.percentile(voxels, 99.5)
    head = binary_fill_holes(binary_closing(voxels > 0.08 * top, iterations=3))
    forms = {
        "mirrored": nib.Nifti1Image(np.ascontiguousarray(voxels[::-1]), image.affine),
        "doubled": nib.Nifti1Image(voxels * 2, image.affine),
        "thick": nib.Nifti1Image(np.ascontiguousarray(slices), image.affine @ np.diag([1.0, 1, step, 1])),
        "inverted": nib.Nifti1Image((np.clip(top - voxels, 0, None) * head).astype(np.float32), image.affine),
        "in air": nib.Nifti1Image(np.pad(voxels, 40), image.affine),
    }
    for name, angles in (("nodding", (30, 0, 0)), ("tilted", (0, 30, 0)), ("turned", (0, 0, 30))):
        forms[name] = _turned(image, angles)
    plain = network_mask(image, network).volume_ml
    for name, form in forms.items():
        assert network_mask(form, network).volume_ml == pytest.approx(plain, rel=0.05), name


def _turned(image: nib.Nifti1Image, angles: tuple[float, float, float], size: int = 240) -> nib.Nifti1Image:
    """The head turned about its middle (degrees about x, y, z), in a header that knows nothing of it."""
    grid = np.eye(4)
    grid[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    middle = image.affine @ [*(np.array(image.shape) - 1) / 2, 1]
    grid[:3, 3] = middle[:3] - grid[:3, :3] @ np.full(3, (size - 1) / 2)
    return nib.Nifti1Image(resample(np.asarray(image.dataobj), image.affine, (size,) * 3, grid), np.eye(4))


def test_stripped_scans_are_recognised_and_heads_are_not(data: Path) -> None:
    for folder, subject, method in (
        ("ds002748", "01", "none"),
        ("ds002748", "33", "none"),
        ("ds000011", "01", "network"),
        ("ixi-hh-2mm", "IXI014", "network"),
    ):
        path = data / folder / f"sub-{subject}" / "anat" / f"sub-{subject}_T1w.nii.gz"
        assert extract_brain(conform(*read_image(path))[0]).method == method, path
