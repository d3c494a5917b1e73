"""What the group level needs to know of an image, computed once, where its voxels are in memory.

Everything but the tissue ratios is measured on every second voxel of each axis: an eighth of the time, and a site is
told as well. The ratios are those of `imunity-evaluate sites`, to the digit.
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
from imunity_bids.metrics.tissue_ratios import tissue_ratios, well_inside
from imunity_bids.metrics.volumes import tissue_volumes

STEP = 2  # voxels, along each axis
BLUR = 2.0  # mm (σ): textures of a site are gone, its contrast is not
SAMPLE = 20_000  # voxels that tissues are learned from
FEWEST = 1000  # voxels after the step: 8 mL; less is no brain
BEFORE, AFTER, MATCHED, BLURRED = "before", "after", "matching", "blurred"
DESCRIPTION = (
    "What the group level compares sites by: tissue levels relative to white matter in voxels well inside each tissue "
    f"of the image before (every voxel), tissue volumes in mL, intensities and textures (every {STEP}nd voxel of each "
    "axis), of the image before, after, after plain histogram matching to the reference, and blurred; shape of the "
    "mask. All in template space."
)


def image_features(before: np.ndarray, after: np.ndarray, mask: np.ndarray, quantiles: np.ndarray) -> dict[str, Any]:
    """Numbers of one image for `*_features.json`; None where one is not defined.

    Parameters
    ----------
    before, after
        White-striped and harmonized brain, (X, Y, Z) float32 in [0, 1], 1 mm.
    mask
        (X, Y, Z) bool.
    quantiles
        Of the reference's intensities, at 0, 1, …, 100 %, (101,).

    Returns
    -------
    dict
        `Images`, by name (before, after, matching, blurred): `Ratios`, `VolumesML` and `Intensities` of each, the
        blurred one having only the last; `MaskShape`. Without `Images` where the mask is too small for a brain.
    """
    box = ndimage.find_objects(mask.astype(np.uint8))
    if not box or np.count_nonzero(_coarse(mask[box[0]])) < FEWEST:
        return {"Description": DESCRIPTION}
    before, after, mask = (np.ascontiguousarray(volume[box[0]]) for volume in (before, after, mask))
    inside, small = well_inside(before, mask), _coarse(mask)
    images: dict[str, dict[str, Any]] = {}
    for name, image in ((BEFORE, before), (AFTER, after), (MATCHED, matching_to(before, mask, quantiles))):
        images[name] = {"Ratios": _plain(tissue_ratios(image, inside)), **volumes_and_intensities(image, mask)}
    blurred = ndimage.gaussian_filter(_coarse(before), BLUR / STEP)
    images[BLURRED] = {"Intensities": _plain(intensity_and_texture(blurred, small))}
    return {"Description": DESCRIPTION, "Images": images, "MaskShape": _plain(mask_shape(small, STEP))}


def volumes_and_intensities(image: np.ndarray, mask: np.ndarray) -> dict[str, dict[str, float | None]]:
    """`VolumesML` and `Intensities` of one image, as in `image_features`; a box around the brain is enough."""
    coarse, small = _coarse(image), _coarse(mask)
    return {
        "VolumesML": _plain({t: n * STEP**3 / 1000 for t, n in tissue_volumes(coarse, small, SAMPLE).items()}),
        "Intensities": _plain(intensity_and_texture(coarse, small)),
    }


def _coarse(volume: np.ndarray) -> np.ndarray:
    """Every second voxel of each axis."""
    return np.ascontiguousarray(volume[(slice(None, None, STEP),) * 3])


def _plain(numbers: Mapping[str, float]) -> dict[str, float | None]:
    """For JSON, which knows neither NaN nor infinity."""
    return {name: float(value) if math.isfinite(value) else None for name, value in numbers.items()}
