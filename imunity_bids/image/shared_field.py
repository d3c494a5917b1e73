"""What the fields of one person's scans by one scanner still differ by, once each scan's own field is out.

After Lewis and Fox 2004 (doi:10.1016/j.neuroimage.2004.04.030): where scans lie on each other, the log of their ratio
is smooth where it is field, and small and sharp where the brain has changed. Each scan is brought to the mean of all
fields, as Leung et al. 2012 (doi:10.1016/j.neuroimage.2011.10.068) do for more than two, so that none is the target.
Voxels inside tissue tell it, away from CSF; borders between tissues, and what changed, do not.
"""

from __future__ import annotations

from collections.abc import Sequence

import nibabel as nib
import numpy as np
from scipy import ndimage

from imunity_bids.errors import DataUnusable
from imunity_bids.image.bias_field import SPACING_MM, surroundings
from imunity_bids.image.smooth import mean_in_mask

SIGMA_MM = 12.0  # of the Gaussian that smooths the log ratios
ROUNDS = 4  # what one smoothing leaves is smoothed again: a single one flattens what is no wider than itself
TISSUE = 0.6  # of the brain's median, below which a voxel is no tissue but CSF
CORE_MM = 4.0  # from the next CSF, which may have moved
OUTLIER = 3.0  # robust standard deviations from the field, where a voxel counts no more
LEAST = 1e-6  # relative difference of two levels
ENOUGH = 100  # points of tissue
REACH_MM = 36.0  # around the image: so far away nothing is corrected


def deviations(scans: Sequence[nib.Nifti1Image], seen: np.ndarray) -> list[nib.Nifti1Image]:
    """Log of each scan's field relative to the geometric mean of all; they add up to 0.

    Parameters
    ----------
    scans
        At least two without their own fields, (X, Y, Z) on one grid, each in its own unit.
    seen
        Part of the brain (bool) that counts, without lesions.

    Returns
    -------
    On a grid of 3 mm that reaches further than the scans', smooth, 0 far from the brain.
    """
    mm = float(scans[0].header.get_zooms()[0])
    step = max(1, round(SPACING_MM / mm))
    sigma = SIGMA_MM / (step * mm)
    margin = int(np.ceil(REACH_MM / SIGMA_MM * sigma))

    def coarse(volume: np.ndarray) -> np.ndarray:
        return np.pad(volume[(slice(step // 2, None, step),) * 3], margin)

    volumes = [_in_units_of_its_brain(scan, seen) for scan in scans]
    levels = [surroundings(volume)[0] for volume in volumes]
    tissue = coarse(
        ndimage.binary_erosion(seen & (np.min(levels, axis=0) > TISSUE), iterations=max(1, round(CORE_MM / mm)))
    )
    levels = [coarse(level) for level in levels]
    mean, spread = (coarse(part) for part in surroundings(np.mean(volumes, axis=0)))
    if tissue.sum() < ENOUGH:
        raise DataUnusable("the scans of this person that one scanner made have too little tissue in common")
    logs = np.log(levels, out=np.zeros((len(levels), *tissue.shape)), where=tissue)
    variation = np.divide(spread, mean, out=np.zeros_like(mean), where=tissue)
    even = tissue * np.exp(-0.5 * _relative(variation, tissue) ** 2)
    fields = np.stack([_smooth(ratio, even, tissue, sigma) for ratio in logs - logs.mean(axis=0)])
    affine = scans[0].affine @ nib.affines.from_matvec(step * np.eye(3), np.full(3, step // 2 - margin * step))
    return [nib.Nifti1Image(field.astype(np.float32), affine) for field in fields - fields.mean(axis=0)]


def _in_units_of_its_brain(scan: nib.Nifti1Image, seen: np.ndarray) -> np.ndarray:
    data = np.asarray(scan.dataobj, dtype=np.float32)
    return data / np.median(data[seen])


def _relative(volume: np.ndarray, tissue: np.ndarray) -> np.ndarray:
    """To its median in tissue; what is 0 there, as of scans that are the same file, stays so."""
    return volume / max(float(np.median(volume[tissue])), LEAST)


def _smooth(ratio: np.ndarray, weight: np.ndarray, tissue: np.ndarray, sigma: float) -> np.ndarray:
    """What is smooth in log ratios (X, Y, Z), their median taken as a gain; `sigma` in voxels."""
    left = (ratio - np.median(ratio[tissue])) * tissue
    field = np.zeros_like(ratio)
    for _ in range(ROUNDS):
        distance = _relative(np.abs(left), tissue) / (1.4826 * OUTLIER)
        trusted = weight * np.clip(1 - distance**2, 0, None) ** 2  # Tukey's biweight
        part = mean_in_mask(left * trusted, trusted, sigma)
        field += part
        left -= part * tissue
    return field
