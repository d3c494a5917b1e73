"""Intensities and textures of a brain as a few numbers: what a classifier is shown to tell the scanner by."""

from __future__ import annotations

import numpy as np
from scipy import stats
from skimage.feature import graycomatrix, graycoprops

LEVELS = 32  # gray levels of the co-occurrence matrix
ANGLES = (0, np.pi / 4, np.pi / 2, 3 * np.pi / 4)
TEXTURES = ("contrast", "homogeneity", "energy", "correlation")
SLICES = 5  # per axis, evenly spaced over the middle half of the brain


def intensity_and_texture(image: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """First-order statistics inside the brain and Haralick's textures (1973), over slices of three axes.

    `image` is (X, Y, Z) in [0, 1], `mask` bool of the same shape.
    """
    values = image[mask]
    features = {f"q{percent:02d}": float(np.percentile(values, percent)) for percent in range(5, 100, 10)}
    features |= {
        "mean": float(values.mean()),
        "std": float(values.std()),
        "skewness": float(stats.skew(values)),
        "kurtosis": float(stats.kurtosis(values)),
    }
    matrices = []
    coarse = np.where(mask, 1 + np.minimum(image * LEVELS, LEVELS - 1).astype(np.uint8), 0).astype(np.uint8)
    for axis in range(3):
        for position in np.linspace(0.25, 0.75, SLICES):
            plane = np.take(coarse, int(position * (coarse.shape[axis] - 1)), axis=axis)
            # level 0 is background: its row and column go, so that the mask's outline is no texture
            matrices.append(graycomatrix(plane, [1, 2], ANGLES, LEVELS + 1, symmetric=True)[1:, 1:])
    together = np.sum(matrices, axis=0, dtype=float)
    together /= together.sum(axis=(0, 1))
    for name in TEXTURES:
        by_distance = graycoprops(together, name).mean(axis=1)
        features |= {f"{name}{distance}": float(value) for distance, value in zip((1, 2), by_distance, strict=True)}
    return features
