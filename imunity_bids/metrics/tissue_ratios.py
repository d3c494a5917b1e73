"""Levels of the tissues relative to white matter, from voxels well inside each of them: what a scanner's contrast is.

The voxels come from one segmentation of the image before harmonization and serve for all methods, so that no method
gains by moving a border.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from imunity_bids.metrics.tissue_classes import TISSUES, tissue_classes

EROSIONS = {"csf": 2, "gray": 1, "white": 3}  # by a voxel of 1 mm each; the cortex is 2.5 mm thick
EVENEST = 0.5  # share of the eroded gray matter that is taken, by its gradient: thin ribbons never reach their level
SMOOTH = 0.7  # voxels (σ), of that gradient
FEWEST = 100  # voxels; with fewer, it is eroded by less
# Depth below the mask's surface, relative to the deepest voxel (about 55 mm). CSF: the ventricles, since masks differ
# in how much of the outer CSF they keep. Gray: the cortex, since iron and myelin make deep nuclei another tissue.
CSF_BELOW, GRAY_ABOVE = 0.35, 0.5
RATIOS = ("gray_white", "csf_white")


def well_inside(image: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
    """Voxels that hold one tissue only, by tissue, (X, Y, Z) bool; `image` (X, Y, Z) in [0, 1], 1 mm, `mask` bool."""
    classes, depth = tissue_classes(image, mask), _depth(mask)
    places = {"csf": depth > CSF_BELOW, "gray": depth < GRAY_ABOVE, "white": mask}
    inside = {
        tissue: _eroded(classes == number, EROSIONS[tissue], places[tissue]) for number, tissue in enumerate(TISSUES)
    }
    gray, steepness = inside["gray"], ndimage.gaussian_gradient_magnitude(image, SMOOTH)
    if gray.any():
        inside["gray"] = gray & (steepness <= np.quantile(steepness[gray], EVENEST))
    return inside


def tissue_ratios(image: np.ndarray, inside: dict[str, np.ndarray]) -> dict[str, float]:
    """Medians of CSF and gray matter, each divided by that of white matter; NaN for a tissue that has no voxel."""
    levels = tissue_levels(image, inside)
    return {name: levels[name.split("_")[0]] / levels["white"] for name in RATIOS}


def tissue_levels(image: np.ndarray, inside: dict[str, np.ndarray]) -> dict[str, float]:
    """Median of each tissue, by its name; NaN where it has no voxel."""
    return {tissue: float(np.median(image[where])) if where.any() else np.nan for tissue, where in inside.items()}


def _depth(mask: np.ndarray) -> np.ndarray:
    """Distance to the mask's surface relative to that of the deepest voxel, to 2 voxels, (X, Y, Z)."""
    coarse = ndimage.distance_transform_edt(np.pad(mask[::2, ::2, ::2], 1))[1:-1, 1:-1, 1:-1]
    fine = coarse.astype(np.float32).repeat(2, axis=0).repeat(2, axis=1).repeat(2, axis=2)
    return fine[tuple(slice(length) for length in mask.shape)] / max(float(coarse.max()), 1.0)


def _eroded(tissue: np.ndarray, times: int, where: np.ndarray) -> np.ndarray:
    """What of a tissue lies `where` after so many erosions, or after the last that leaves enough."""
    kept = tissue & where
    for _ in range(times):
        tissue = ndimage.binary_erosion(tissue)
        if np.count_nonzero(tissue & where) < FEWEST:
            break
        kept = tissue & where
    return kept
