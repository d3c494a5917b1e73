"""A brain before and after harmonization, and its tissues: found once, for all that is measured on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from imunity_bids.metrics.tissue_ratios import well_inside

FEWEST_ML = 8.0  # less is no brain


@dataclass(frozen=True)
class Brain:
    """Images (X, Y, Z) float32 in [0, 1] of 1 mm, white-striped and harmonized, cut to the box of their mask (bool)."""

    before: np.ndarray
    after: np.ndarray
    mask: np.ndarray
    seen: np.ndarray  # the mask without lesions, bool
    inside: dict[str, np.ndarray]  # voxels well inside each tissue of the image before


def brain_of(before: np.ndarray, after: np.ndarray, mask: np.ndarray, seen: np.ndarray | None = None) -> Brain | None:
    """The brain in two images of template space, (X, Y, Z); None where its mask (bool) is too small for one."""
    box = ndimage.find_objects(mask.astype(np.uint8))
    if not box or np.count_nonzero(mask) < 1000 * FEWEST_ML:
        return None
    parts = (before, after, mask, mask if seen is None else seen)
    before, after, mask, seen = (np.ascontiguousarray(part[box[0]]) for part in parts)
    return Brain(before, after, mask, seen, well_inside(before, mask))
