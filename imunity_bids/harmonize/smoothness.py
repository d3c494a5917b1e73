"""One smoothness for all scans: what came out sharper than the target is smoothed to it; nothing is ever sharpened.

As AFNI's 3dBlurToFWHM does for functional images: smoothness is measured (`metrics.image_quality.fwhm`), not taken from
voxel sizes, and the kernel is what is missing.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from imunity_bids.harmonize.slices import bounding_box
from imunity_bids.image.smooth import FWHM, mean_in_mask
from imunity_bids.metrics.image_quality import fwhm

OFF, OF_REFERENCE = "none", "reference"  # values of --target-fwhm, beside mm
STEPS = 8  # of the bisection: the kernel is off by less than 1/256 of the target
SPACING_MM = (1.0, 1.0, 1.0)  # of the template's grid


@dataclass(frozen=True)
class Smoothing:
    """Full widths at half maximum in mm."""

    target: float
    kernel: float  # of the Gaussian; 0: the image was as smooth before
    before: float  # of the image, mean of the axes
    after: float

    def record(self) -> dict[str, float]:
        """For the sidecar, in mm."""
        return {name.capitalize(): round(value, 3) for name, value in asdict(self).items()}


def smoothness(volume: np.ndarray, mask: np.ndarray) -> float:
    """Full width at half maximum in mm of a brain (X, Y, Z) at 1 mm inside its mask, mean of the axes."""
    return float(np.mean(fwhm(volume, mask, SPACING_MM)))


def smoothed_to(volume: np.ndarray, mask: np.ndarray, target: float) -> tuple[np.ndarray, Smoothing]:
    """The brain (X, Y, Z) as smooth as `target` (mm), 0 outside the mask; itself where it is as smooth already.

    Or as near as a kernel of that width comes: a brain is too small for targets of several cm.
    """
    box = bounding_box(mask)
    brain, inside = volume[box] * mask[box], mask[box]
    before = smoothness(brain, inside)
    if not before < target:
        return volume, Smoothing(target, 0.0, before, before)

    def by(kernel: float) -> np.ndarray:
        return (mean_in_mask(brain, inside, kernel / FWHM) * inside).astype(np.float32)

    low, high = 0.0, target
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if smoothness(by(middle), inside) < target else (low, middle)
    result = np.zeros_like(volume)
    result[box] = by(high)
    return result, Smoothing(target, high, before, smoothness(result[box], inside))
