"""A space midway between the scans of one person, found by rigid registration that favours none of them.

After Reuter et al. 2012 (doi:10.1016/j.neuroimage.2012.02.084): a scan that is resampled while another is not, or that
is the target of the others, looks as if it had changed. Here each in turn is registered to the mean of the others, in a
space that is the mean of theirs, and all are resampled once. (A mean of which a scan is a part would hold it in place.)

A motion is a (4, 4) matrix that takes points in mm (RAS) of the one space to those of the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage
from scipy.linalg import expm, logm

from imunity_bids.image.ants_bridge import apply, read_motion, refine_rigid, register, write_motion

FINEST_MM = 1.0  # of the mid-space, where only a mask and a mean are
MARGIN_MM = 8.0  # around the brains
LEVEL = 100.0  # that the median of each brain is scaled to, so that none weighs more in the mean


@dataclass(frozen=True)
class MidSpace:
    """Where the scans meet.

    Attributes
    ----------
    mean
        Mean of the brains, (X, Y, Z) float32.
    mask
        Mean of their masks (bool), on that grid.
    motions
        By scan: from the mid-space to the scan.
    """

    mean: nib.Nifti1Image
    mask: np.ndarray
    motions: list[np.ndarray]


def mid_space(images: Sequence[nib.Nifti1Image], masks: Sequence[np.ndarray], seed: int, folder: Path) -> MidSpace:
    """Find it for conformed heads and their brain masks (bool), in `folder` for files that go again."""
    brains = [_brain(image, mask) for image, mask in zip(images, masks, strict=True)]
    motions = [np.eye(4)]
    for brain in brains[1:]:
        forward, _ = register(brain, brains[0], "rigid", seed, folder)
        motions.append(read_motion(forward))
    motions = centred(motions)
    grid = _grid(images, masks, motions)
    for number, brain in enumerate(brains):
        others = [other for other in range(len(brains)) if other != number]
        mean = _mean_of([brains[o] for o in others], grid, [motions[o] for o in others], folder)
        around = nib.Nifti1Image(mean, grid.affine)
        motions[number] = refine_rigid(brain, around, motions[number], seed, folder)
    motions = centred(motions)
    grid = _grid(images, masks, motions)
    mask = mean_mask(images, masks, grid, motions, folder)
    return MidSpace(nib.Nifti1Image(_mean_of(brains, grid, motions, folder) * mask, grid.affine), mask, motions)


def centred(motions: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The same motions from the space in their middle: there the mean of their logarithms is about 0 (of two: 0)."""
    middle = np.mean([np.real(logm(motion)) for motion in motions], axis=0)
    return [motion @ expm(-middle) for motion in motions]


def mean_mask(
    images: Sequence[nib.Nifti1Image], masks: Sequence[np.ndarray], grid: nib.Nifti1Image,
    motions: Sequence[np.ndarray], folder: Path,
) -> np.ndarray:  # fmt: skip
    """Where the mean of the signed distances to the masks' surfaces is positive: the surface midway between theirs."""
    signed = np.zeros(grid.shape, np.float32)
    for image, mask, motion in zip(images, masks, motions, strict=True):
        share = moved(mask.astype(np.float32), image, grid, motion, folder, "linear")
        inside = share > 0.5
        depth = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
        signed += depth - np.sign(depth) + share - 0.5  # at the surface the share of the voxel tells how far it is
    return signed > 0


def moved(
    data: np.ndarray, image: nib.Nifti1Image, grid: nib.Nifti1Image, motion: np.ndarray, folder: Path, interpolator: str
) -> np.ndarray:
    """`data` on the grid of `image`, on `grid`, whose points `motion` takes to those of `image`."""
    return apply(data, image, grid, write_motion(folder / "motion.mat", motion), interpolator)


def _brain(image: nib.Nifti1Image, mask: np.ndarray) -> nib.Nifti1Image:
    data = np.asarray(image.dataobj, dtype=np.float32) * mask
    return nib.Nifti1Image(data * np.float32(LEVEL / np.median(data[mask])), image.affine)


def _mean_of(
    brains: Sequence[nib.Nifti1Image], grid: nib.Nifti1Image, motions: Sequence[np.ndarray], folder: Path
) -> np.ndarray:
    parts = [
        moved(np.asarray(brain.dataobj), brain, grid, motion, folder, "linear")
        for brain, motion in zip(brains, motions, strict=True)
    ]
    return np.mean(parts, axis=0, dtype=np.float32)


def _grid(
    images: Sequence[nib.Nifti1Image], masks: Sequence[np.ndarray], motions: Sequence[np.ndarray]
) -> nib.Nifti1Image:
    """As fine as the finest scan but not below 1 mm, along the axes of the mid-space, around all brains; all zero."""
    spacing = max(FINEST_MM, min(min(image.header.get_zooms()[:3]) for image in images))
    corners = []
    for image, mask, motion in zip(images, masks, motions, strict=True):
        (box,) = ndimage.find_objects(mask.astype(np.uint8))
        voxels = np.stack(np.meshgrid(*[(side.start, side.stop) for side in box], indexing="ij")).reshape(3, -1)
        corners.append(nib.affines.apply_affine(np.linalg.inv(motion) @ image.affine, voxels.T))
    low = np.floor(np.concatenate(corners).min(axis=0) - MARGIN_MM)
    high = np.ceil(np.concatenate(corners).max(axis=0) + MARGIN_MM)
    affine = nib.affines.from_matvec(spacing * np.eye(3), low)
    return nib.Nifti1Image(np.zeros(tuple(((high - low) / spacing).astype(int) + 1), np.float32), affine)
