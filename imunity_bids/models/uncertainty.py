"""The error network: how far off a harmonized brain will be at each place, from what surrounds it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn

LEAST = 0.002  # added to errors before their logarithm is taken
WIDE = 6  # σ in voxels of "around here"
DEPTH = 20  # voxels from the rim, beyond which depth does not matter
FEATURES = (
    "scan",
    "harmonized",
    "change",
    "spread of the axes",
    "error that the histogram network expects",
    "standard deviation of the scan over 27 voxels",
    "their mean, relative to the voxel",
    "mean of the scan around here",
    "depth below the rim of the mask",
    "mean absolute change of the brain",
    "place from the middle to the left or right of the brain",
    "place from the back to the front of the brain",
    "place from the bottom to the top of the brain",
)
SPREAD = FEATURES.index("spread of the axes")
EXPECTED = FEATURES.index("error that the histogram network expects")


def describe(
    scan: np.ndarray, harmonized: np.ndarray, spread: np.ndarray, expected: np.ndarray, mask: np.ndarray
) -> np.ndarray:
    """`FEATURES` of every voxel of the brain, (n, F) float32; volumes (X, Y, Z), the first two 0 outside."""
    near = ndimage.uniform_filter(scan, 3)
    rough = np.sqrt(np.maximum(ndimage.uniform_filter(scan**2, 3) - near**2, 0))
    wide = ndimage.gaussian_filter(scan, WIDE) / np.maximum(
        ndimage.gaussian_filter(mask.astype(np.float32), WIDE), 0.01
    )
    depth = np.minimum(ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1, 1:-1], DEPTH)
    change = harmonized - scan
    volumes = [scan, harmonized, change, spread, expected, rough, near - scan, wide, depth]
    features = np.empty((int(mask.sum()), len(FEATURES)), np.float32)
    overall = np.abs(change[mask]).mean() if mask.any() else 0
    for number, column in enumerate([*(volume[mask] for volume in volumes), overall, *_places(mask)]):
        features[:, number] = column
    return features


def _places(mask: np.ndarray) -> np.ndarray:
    """Of every voxel of the brain in its box, (3, n): 0 to 1 to either side, −1 to 1 along the other axes (RAS)."""
    where = np.argwhere(mask).astype(np.float32)
    if not len(where):
        return where.T
    low, high = where.min(axis=0), where.max(axis=0)
    places = (2 * (where - low) / np.maximum(high - low, 1) - 1).T
    places[0] = np.abs(places[0])
    return places


class ErrorNet(nn.Module):
    """`FEATURES` of voxels -> the error to expect there."""

    def __init__(self, width: int = 128):
        super().__init__()
        count = len(FEATURES)
        self.register_buffer("mean", torch.zeros(count))
        self.register_buffer("std", torch.ones(count))
        sizes = (count, width, width)
        hidden = [part for i, o in pairwise(sizes) for part in (nn.Linear(i, o), nn.GELU())]
        self.layers = nn.Sequential(*hidden, nn.Linear(width, 1))

    def log_error(self, features: Tensor) -> Tensor:
        """Logarithm of error + `LEAST`: (n, F) -> (n,)."""
        return self.layers((features - self.mean) / self.std).squeeze(1)

    def forward(self, features: Tensor) -> Tensor:
        """(n, F) -> (n,), in the unit of the image."""
        return (self.log_error(features).exp() - LEAST).clamp(min=0)
