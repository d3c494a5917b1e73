"""A mask that somebody made before, on the grid of its scan, or a clear word why it cannot be one of this scan."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from imunity_bids.errors import DataUnusable
from imunity_bids.image.conform import read_image
from imunity_bids.image.resample import resample

INSIDE = 0.9  # least share of a mask's volume that must lie in the scan's field of view
ON_TISSUE = 0.6  # least share of a brain mask where the scan is not dark: 0.75 to 0.95 on heads, CSF is dark
DARK = 0.1  # of the 98th percentile of the scan


def mask_on(image: nib.Nifti1Image, path: Path, touched: float = 0.5) -> np.ndarray:
    """The mask (bool) of a file on the grid of a conformed image (X, Y, Z), by both headers.

    Parameters
    ----------
    touched
        Share of a voxel that the mask must fill, trilinear.

    Raises
    ------
    DataUnusable
        It is empty, is not one volume, says nothing of where it lies, or lies elsewhere than the image.
    """
    given, data = read_image(path)
    data = data[..., 0] if data.ndim == 4 and data.shape[3] == 1 else data
    if data.ndim != 3:
        raise DataUnusable(f"a mask of shape {data.shape} is not one volume")
    inside = np.isfinite(data) & (data > 0.5)
    if not inside.any():
        raise DataUnusable("the mask is empty")
    if not np.isfinite(given.affine).all() or abs(np.linalg.det(given.affine[:3, :3])) < 1e-6:
        raise DataUnusable("the mask's orientation matrix is singular")
    if not _says_where(given) and not _same_grid(given, image):
        raise DataUnusable("the mask's header has no sform and no qform, and its grid is not the scan's: give it one")
    share = _share_in_field(inside, given.affine, image)
    if share < INSIDE:
        raise DataUnusable(
            f"only {share:.0%} of the mask lies inside the scan: it is of another scan, or a header is wrong"
        )
    return resample(inside.astype(np.float32), given.affine, image.shape, image.affine) > touched


def check_on_tissue(image: nib.Nifti1Image, mask: np.ndarray) -> None:
    """Raise where too much of a brain mask (bool, on the image's grid) is as dark as air.

    Raises
    ------
    DataUnusable
        It lies on something else than a brain.
    """
    data = np.asarray(image.dataobj)
    share = float((data[mask] > DARK * np.percentile(data, 98)).mean())
    if share < ON_TISSUE:
        raise DataUnusable(
            f"the scan is dark in {1 - share:.0%} of the brain mask: it is of another scan, or a header is wrong"
        )


def _says_where(image: nib.Nifti1Image) -> bool:
    header = image.header
    return not hasattr(header, "get_sform") or bool(header["sform_code"] or header["qform_code"])


def _same_grid(given: nib.Nifti1Image, image: nib.Nifti1Image) -> bool:
    canonical = nib.as_closest_canonical(given)
    return canonical.shape[:3] == image.shape and np.allclose(canonical.affine, image.affine, atol=1e-3)


def _share_in_field(mask: np.ndarray, affine: np.ndarray, image: nib.Nifti1Image) -> float:
    to_image = np.linalg.inv(image.affine) @ affine
    where = np.argwhere(mask) @ to_image[:3, :3].T + to_image[:3, 3]
    return float(((where > -0.5) & (where < np.array(image.shape) - 0.5)).all(axis=1).mean())
