"""Persons that need no scan."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from imunity_bids.simulation.persons import Person


def toy_person(seed: int, core: float = 0.6) -> Person:
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


def ball_brain(seed: int = 0, size: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """A brain-like volume: white core, gray rim, CSF around and in the middle; and its mask."""
    rng = np.random.default_rng(seed)
    grid = np.indices((size,) * 3) - (size - 1) / 2 + 2 * rng.standard_normal((3, 1, 1, 1))
    radius = np.sqrt((grid**2).sum(0)) / size + 0.02 * np.cos(grid[0] / 3) * np.cos(grid[1] / 3)
    mask = radius < 0.42
    tissue = np.select([radius < 0.08, radius < 0.27, radius < 0.37], [0.2, 0.7, 0.5], 0.2) * mask
    smooth = ndimage.gaussian_filter(tissue, 0.6) + 0.01 * rng.standard_normal(mask.shape)
    return (np.clip(smooth, 0.01, 1) * mask).astype(np.float32), mask


def person_of(brain: np.ndarray, mask: np.ndarray, name: str = "sub-1") -> Person:
    """A person whose fractions are known: no Atropos."""
    levels = np.array([0.2, 0.5, 0.7])
    nearest = np.abs(brain[None] - levels[:, None, None, None]).argmin(axis=0)
    fractions = (nearest[None] == np.arange(3)[:, None, None, None]) * mask
    return Person(name, np.eye(4), fractions.astype(np.float32), np.zeros(brain.shape, np.float32), mask)
