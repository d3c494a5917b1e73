"""Volumes of the tissues: are they, and the order of persons by them, the same after harmonization?"""

from __future__ import annotations

import math

import numpy as np

from imunity_bids.metrics.tissue_classes import TISSUES
from imunity_bids.metrics.tissue_ratios import tissue_levels


def tissue_volumes(image: np.ndarray, mask: np.ndarray, inside: dict[str, np.ndarray]) -> dict[str, float]:
    """Voxels of CSF, gray and white matter in the mask, by names `csf`, `gray`, `white`; they sum to the mask.

    A voxel is of the tissue whose level is nearest. A mixture of Gaussians fitted to each image would move with its
    contrast (docs/harmonizer.md has both).

    Parameters
    ----------
    image
        (X, Y, Z), T1-weighted: CSF darkest, white matter brightest. NaN for all three tissues where it is not so, or
        one is missing.
    mask
        Brain, (X, Y, Z) bool.
    inside
        `well_inside` of the image BEFORE harmonization: the same voxels tell the levels of every image of this brain.
    """
    levels = tissue_levels(image, inside)
    csf, gray, white = (levels[tissue] for tissue in TISSUES)
    if not csf < gray < white:  # NaN is never less
        return dict.fromkeys(TISSUES, math.nan)
    nearest = np.digitize(image[mask], [(csf + gray) / 2, (gray + white) / 2])
    return dict(zip(TISSUES, np.bincount(nearest, minlength=3).astype(float).tolist(), strict=True))
