"""A person that needs no scan."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from imunity_bids.simulation.persons import Person


def someone(seed: int, core: float = 0.6) -> Person:
    """A ball of white matter in gray matter in CSF, borders one voxel wide; `core` is the radius of the white part."""
    size = 40
    rng = np.random.default_rng(seed)
    radius = np.sqrt((((np.indices((size,) * 3) - (size - 1) / 2) / (size / 2)) ** 2).sum(0))
    mask = radius < 0.95
    tissues = [radius >= 0.85, (radius < 0.85) & (radius >= core), radius < core]
    fractions = np.stack([ndimage.gaussian_filter((t & mask).astype(np.float32), 0.7) for t in tissues]) * mask
    fractions /= np.maximum(fractions.sum(0), 1e-6)
    texture = (0.1 * rng.standard_normal(mask.shape) * mask).astype(np.float32)
    return Person(f"p{seed}", np.eye(4), fractions, texture, mask)
