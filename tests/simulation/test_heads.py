from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from nibabel.affines import from_matvec

pytest.importorskip("monai", reason="training needs the extra `train`")

from imunity_bids.simulation.heads import HeadSimulator, brain_truth, read_label_map


def head_labels(size: int = 72) -> np.ndarray:
    """A toy head, 3 mm voxels: white matter in gray matter in CSF in bone in fat; a cerebellum; a cord below."""
    grid = np.indices((size,) * 3).astype(float)
    radius = np.sqrt(((grid - size / 2) ** 2).sum(0))
    labels = np.zeros((size,) * 3, np.int16)
    for limit, label in ((30, 507), (27, 515), (25, 24), (23, 3), (18, 2)):
        labels[radius < limit] = label
    cord = np.hypot(grid[0] - size / 2, grid[1] - size / 2) < 3
    labels[cord & (grid[2] < size / 2 - 20)] = 16
    labels[30:42, 20:30, 17:24] = 8
    return labels


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> HeadSimulator:
    path = tmp_path_factory.mktemp("maps") / "head.nii.gz"
    nib.Nifti1Image(head_labels(), from_matvec(np.diag([-3.0, 3, 3]), [100, -100, -100])).to_filename(path)
    return HeadSimulator([read_label_map(path)], shape=(96, 96, 96))


def test_the_mask_is_closed_has_no_hole_and_ends_below_the_cerebellum() -> None:
    labels = head_labels()
    mask = brain_truth(labels, spacing_mm=3.0)
    assert mask[36, 36, 36]
    assert mask[..., 16:][((labels == 3) | (labels == 2))[..., 16:]].all()
    assert not mask[labels == 507].any()
    # the cerebellum ends at 17; 4 mm are one voxel of 3 mm
    assert not mask[:, :, :15].any()
    assert mask[36, 36, 17]


def test_the_truth_has_a_thin_rim_and_fills_what_is_narrow() -> None:
    """A shell of CSF 10 mm wide around the brain, bone beyond it, and a fissure of 6 mm down to the centre."""
    grid = np.indices((80,) * 3)
    radius = np.sqrt(((grid - 40.0) ** 2).sum(0))
    labels = np.select([radius < 25, radius < 35, radius < 40], [2, 24, 515], 0).astype(np.int16)
    labels[(abs(grid[0] - 40) < 3) & (radius < 25) & (grid[2] > 40)] = 24
    labels[38:42, 38:42, 18:22] = 8  # what counts as cerebellum
    truth = brain_truth(labels)
    assert truth[40, 40, 55]  # in the fissure
    reach = radius[truth & (grid[2] > 20)].max()
    assert 26 < reach <= 27  # the brain and 2 mm, of 10 mm of CSF


def test_a_number_is_one_head(simulator: HeadSimulator) -> None:
    first, again, other = simulator(1), simulator(1), simulator(2)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_images_are_in_range_and_masks_are_brains(simulator: HeadSimulator) -> None:
    truth = simulator.maps[0].mask.sum().item() * 27 / 1000  # mL
    volumes = []
    for seed in range(6):
        image, mask = simulator(seed)
        assert torch.isfinite(image).all()
        assert image.min() >= 0 and image.max() <= 1
        assert set(mask.unique().tolist()) <= {0.0, 1.0}
        volumes.append(mask.sum().item() * 8 / 1000)
    # scaled by 0.9 to 1.2 per axis and sometimes cut by the field of view
    assert 0.5 * truth < np.median(volumes) < 1.4 * truth


def test_real_label_maps_have_a_plausible_truth(data: Path) -> None:
    """At 2 mm, to be fast: brains of adults with their inner CSF and a rim."""
    image = nib.as_closest_canonical(nib.load(data / "synthseg-label-maps" / "training_seg_01.nii.gz"))
    mask = brain_truth(np.asarray(image.dataobj)[::2, ::2, ::2].astype(np.int16), spacing_mm=2.0)
    assert 1200 < mask.sum() * 8 / 1000 < 1600  # mL
