"""The background of MP2RAGE's uniform image: a ratio of two images, so that air is noise as bright as the head.

O'Brien et al. 2014 (doi:10.1371/journal.pone.0099676) suppress it with the two images; here the ratio alone must do. A
voxel of tissue is like most of its neighbours, also beside an edge; one of noise is like hardly any.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

NOISY = 0.15  # standard deviation in a corner, relative to the range of the image; uniform noise has 0.29
CORNER = 10  # a corner is a tenth of each axis long
SMOOTHING = 2.0  # voxels (σ), of how unlike its neighbours each one is
CALM = 0.5  # times what that is in the corners: less is tissue
SMALLEST_HEAD = 0.05  # of the voxels: less is none
CLOSING = 4  # voxels: sinuses and skull are noise, too, and belong to the head


def has_noise_background(data: np.ndarray) -> bool:
    """True where most corners of an image (X, Y, Z) are noise of nearly the whole range of intensities."""
    low, high = np.percentile(data[::2, ::2, ::2], (0.5, 99.5))
    return bool(np.median([corner.std() for corner in _corners(data)]) > NOISY * (high - low) > 0)


def without_noise_background(data: np.ndarray) -> tuple[np.ndarray, float]:
    """The image (X, Y, Z) with 0 outside the head, and the share of voxels that became 0; none where no head is."""
    unlike = ndimage.gaussian_filter(_unlike_neighbours(data), SMOOTHING)
    usual = float(np.median([np.median(corner) for corner in _corners(unlike)]))
    pieces, _ = ndimage.label(unlike < CALM * usual)
    sizes = np.bincount(pieces.ravel())[1:]
    if not len(sizes) or sizes.max() < SMALLEST_HEAD * data.size:
        return data, 0.0
    head = pieces == 1 + sizes.argmax()
    around = np.pad(head, CLOSING)  # so that closing does not eat what touches the border
    closed = ndimage.binary_closing(around, iterations=CLOSING)[(slice(CLOSING, -CLOSING),) * 3]
    head = ndimage.binary_fill_holes(closed)
    return np.where(head, data, 0).astype(np.float32), float(1 - head.mean())


def _unlike_neighbours(data: np.ndarray) -> np.ndarray:
    """Median of the absolute differences from the six neighbours: the third smallest."""
    padded = np.pad(data, 1, mode="edge")
    middle = (slice(1, -1),) * 3
    differences = [np.abs(np.roll(padded, step, axis)[middle] - data) for axis in range(3) for step in (-1, 1)]
    return np.partition(np.stack(differences), 2, axis=0)[2]


def _corners(data: np.ndarray) -> list[np.ndarray]:
    ends = [(slice(0, max(2, n // CORNER)), slice(-max(2, n // CORNER), None)) for n in data.shape]
    return [data[x, y, z] for x in ends[0] for y in ends[1] for z in ends[2]]
