"""Plain histogram matching to known quantiles: the simplest way to harmonize, which all others are to beat."""

from __future__ import annotations

import numpy as np


def matching_to(brain: np.ndarray, mask: np.ndarray, quantiles: np.ndarray) -> np.ndarray:
    """Give the brain an intensity distribution: the quantiles (101) at 0, 1, …, 100 %, of a reference or a mean."""
    values = brain[mask]
    own = np.percentile(values, np.arange(len(quantiles)))
    return inside_mask(mask, np.interp(values, own, quantiles))


def inside_mask(mask: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Values (N,) cut to [0, 1] in the voxels of the mask, 0 outside, (X, Y, Z) float32."""
    out = np.zeros(mask.shape, np.float32)
    out[mask] = np.clip(values, 0, 1)
    return out
