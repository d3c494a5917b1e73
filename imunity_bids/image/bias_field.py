"""Did N4 leave a field? Where the template has white matter it can be seen, and estimated again."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from imunity_bids.image.ants_bridge import apply, bias_corrected
from imunity_bids.image.template import Template
from imunity_bids.image.white_stripe import white_stripe

OVERLAP = 0.85  # Dice of the masks below which the template does not tell where white matter lies
SMOOTHING = 1.5  # voxels; the affine leaves a few mm


def field_is_left(moved: np.ndarray, mask: np.ndarray, template: Template) -> bool:
    """True where the histogram's last peak cannot be that of the voxels where the template has white matter.

    Parameters
    ----------
    moved, mask
        Bias-corrected image and its brain mask on the template's grid, (X, Y, Z).
    """
    if 2 * (mask & template.mask).sum() < OVERLAP * (mask.sum() + template.mask.sum()):
        return False
    return white_stripe(moved, mask, template.white_core).from_template


def refined(image: nib.Nifti1Image, mask: np.ndarray, template: Template, backward: Path) -> np.ndarray:
    """The conformed image without its field, by N4 with the template's white core, smoothed, as weights (float32).

    Parameters
    ----------
    backward
        ITK transform, template to image.
    """
    core = ndimage.gaussian_filter(template.white_core.astype(np.float32), SMOOTHING)
    return bias_corrected(image, mask, apply(core, template.brain, image, backward, "linear").clip(0, 1))
