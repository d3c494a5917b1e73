"""Smoothing that knows where the brain ends."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

FWHM = float(np.sqrt(8 * np.log(2)))  # full width at half maximum of a Gaussian, relative to σ
LEAST_SHARE = 1e-3  # of a Gaussian inside the mask, below which its mean is not trusted


def mean_in_mask(volume: np.ndarray, mask: np.ndarray, sigma: float | np.ndarray) -> np.ndarray:
    """Gaussian mean (σ in voxels, or (3,) of them) over the mask alone, so that darkness does not mix into its rim.

    `volume` is (X, Y, Z) and 0 outside the mask; the result is so smooth that it has values near it, too. With weights
    from 0 to 1 for a mask, and a volume times these, it is the weighted mean.
    """
    share = ndimage.gaussian_filter(mask.astype(np.float32), sigma)
    return ndimage.gaussian_filter(volume, sigma) / np.maximum(share, LEAST_SHARE)
