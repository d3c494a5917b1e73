"""What the group level needs to know of an image, computed once, where its voxels are in memory.

Intensities and textures are measured on every second voxel of each axis: an eighth of the time, and a site is told as
well. Ratios and volumes are those of `imunity-evaluate sites`, to the digit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import ndimage

from imunity_bids.metrics.matching import matching_to
from imunity_bids.metrics.shape import mask_shape
from imunity_bids.metrics.textures import intensity_and_texture
from imunity_bids.metrics.tissue_ratios import tissue_ratios
from imunity_bids.metrics.volumes import tissue_volumes
from imunity_bids.qc.brain import Brain

STEP = 2  # voxels, along each axis
BLUR = 2.0  # mm (σ): textures of a site are gone, its contrast is not
BEFORE, AFTER, MATCHED, BLURRED = "before", "after", "matching", "blurred"
DESCRIPTION = (
    "What the group level compares sites by: tissue levels relative to white matter in voxels well inside each tissue "
    "of the image before (every voxel), tissue volumes in mL by these levels, intensities and textures (every "
    f"{STEP}nd voxel of each axis), of the image before, after, after plain histogram matching to the reference, and "
    "blurred; shape of the mask. All in template space."
)


def image_features(brain: Brain | None, quantiles: np.ndarray) -> dict[str, Any]:
    """Numbers of one image for `*_features.json`; None where one is not defined.

    Parameters
    ----------
    brain
        Before and after; None: the mask is too small for a brain.
    quantiles
        Of the reference's intensities, at 0, 1, …, 100 %, (101,).

    Returns
    -------
    dict
        `Images`, by name (before, after, matching, blurred): `Ratios`, `VolumesML` and `Intensities` of each, the
        blurred one having only the last; `MaskShape`. Without a brain neither.
    """
    if brain is None:
        return {"Description": DESCRIPTION}
    small = _coarse(brain.mask)
    matched = matching_to(brain.before, brain.mask, quantiles)
    images: dict[str, dict[str, Any]] = {}
    for name, image in ((BEFORE, brain.before), (AFTER, brain.after), (MATCHED, matched)):
        ratios = _plain(tissue_ratios(image, brain.inside))
        images[name] = {"Ratios": ratios, **volumes_and_intensities(image, brain.mask, brain.inside)}
    blurred = ndimage.gaussian_filter(_coarse(brain.before), BLUR / STEP)
    images[BLURRED] = {"Intensities": _plain(intensity_and_texture(blurred, small))}
    return {"Description": DESCRIPTION, "Images": images, "MaskShape": _plain(mask_shape(small, STEP))}


def volumes_and_intensities(
    image: np.ndarray, mask: np.ndarray, inside: dict[str, np.ndarray]
) -> dict[str, dict[str, float | None]]:
    """`VolumesML` and `Intensities` of one image, as in `image_features`; a box around the brain is enough.

    `inside` are the voxels `well_inside` each tissue of the image before.
    """
    return {
        "VolumesML": _plain({tissue: n / 1000 for tissue, n in tissue_volumes(image, mask, inside).items()}),
        "Intensities": _plain(coarse_intensities(image, mask)),
    }


def coarse_intensities(image: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """Intensities and textures on every second voxel; `mask` fills its box, so that these are always the same ones."""
    return intensity_and_texture(_coarse(image), _coarse(mask))


def _coarse(volume: np.ndarray) -> np.ndarray:
    """Every second voxel of each axis."""
    return np.ascontiguousarray(volume[(slice(None, None, STEP),) * 3])


def _plain(numbers: Mapping[str, float]) -> dict[str, float | None]:
    """For JSON, which knows neither NaN nor infinity."""
    return {name: float(value) if math.isfinite(value) else None for name, value in numbers.items()}
