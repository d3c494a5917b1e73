"""Shape of a brain mask in a few numbers: what of a site is told by its persons and its masks, not by intensities."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def mask_shape(mask: np.ndarray, spacing: float) -> dict[str, float]:
    """Volume, widths, surface, and how far the mask is from a ball.

    Parameters
    ----------
    mask
        (X, Y, Z) bool, at least one voxel.
    spacing
        Edge of a voxel in mm.

    Returns
    -------
    dict
        `volume_ml`; `width_x`, `width_y`, `width_z` of the box around it, in mm; `surface_share`, the share of voxels
        with a neighbour outside; `elongation` and `flatness`, the square roots of the second and of the third
        eigenvalue of the voxels' covariance relative to the first (1 and 1: a ball; 0 where all voxels are one).
    """
    places = np.argwhere(mask)
    widths = (np.ptp(places, axis=0) + 1) * spacing
    surface = np.count_nonzero(mask & ~ndimage.binary_erosion(mask))
    spread = np.sqrt(np.clip(np.linalg.eigvalsh(np.cov(places.T, ddof=0))[::-1], 0, None))
    longest = max(float(spread[0]), 1e-9)
    return {
        "volume_ml": len(places) * spacing**3 / 1000,
        **{f"width_{axis}": float(width) for axis, width in zip("xyz", widths, strict=True)},
        "surface_share": surface / len(places),
        "elongation": float(spread[1]) / longest,
        "flatness": float(spread[2]) / longest,
    }
