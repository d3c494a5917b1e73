"""Bring any T1w file to what the rest of the chain expects: RAS, 3D, finite, not negative, float32."""

from __future__ import annotations

import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.spatialimages import SpatialImage

from imunity_bids.errors import DataUnusable, InputMissing
from imunity_bids.image.background import has_noise_background, without_noise_background

SMALLEST_FIELD_MM = 60.0
VOXEL_RANGE_MM = (0.1, 12.0)
EMPTY_SHARE = 0.35  # of voxels that are exactly 0: a scan without its skull


def read_image(path: Path) -> tuple[SpatialImage, np.ndarray]:
    """Header and voxels (float32, scaled by the header's slope) of a NIfTI file.

    Raises
    ------
    InputMissing
        The file is not there or cannot be opened.
    DataUnusable
        It is no image, or is cut short.
    """
    check_readable(path)
    try:
        image = nib.load(path)
        return image, np.asanyarray(image.dataobj, dtype=np.float32)
    except (EOFError, zlib.error, OSError, ValueError, nib.filebasedimages.ImageFileError) as error:
        raise DataUnusable(f"{path} is truncated or not a NIfTI image ({error}); fetch or convert it again") from error


def check_readable(path: Path) -> None:
    """Raise InputMissing unless the file can be opened."""
    try:
        with open(path, "rb"):
            return
    except FileNotFoundError as error:
        raise InputMissing(f"{path} does not exist (a broken link, or data that was not fetched?)") from error
    except OSError as error:
        raise InputMissing(f"{path} cannot be read: {error.strerror}") from error


def conform(image: SpatialImage, data: np.ndarray) -> tuple[nib.Nifti1Image, list[str]]:
    """RAS, 3D, finite, non-negative float32, and what had to be mended, in words for the report.

    Raises
    ------
    DataUnusable
        Empty, constant, flat or too small to hold a head.
    """
    fixes: list[str] = []
    data = _one_volume(data, fixes)
    data = _finite(data, fixes)
    if data.max() == data.min():
        kind = "zero" if data.max() == 0 else f"constant ({data.max():g})"
        raise DataUnusable(f"every voxel is {kind}: there is no head in it")
    data = _quiet_around(_not_negative(data, fixes), fixes)
    affine = _affine(image, fixes)
    conformed = nib.as_closest_canonical(nib.Nifti1Image(data, affine))
    _check_size(conformed)
    if not np.allclose(conformed.affine, affine):
        fixes.append(f"axes reordered from {''.join(nib.aff2axcodes(affine))} to RAS, no interpolation")
    conformed.header.set_xyzt_units("mm")
    conformed.set_sform(conformed.affine, code=1)
    conformed.set_qform(conformed.affine, code=1)
    return conformed, fixes


def _one_volume(data: np.ndarray, fixes: list[str]) -> np.ndarray:
    if data.ndim < 3 or min(data.shape[:3]) < 8:
        raise DataUnusable(f"an image of shape {data.shape} is not a 3D head")
    if data.ndim > 3:
        volumes = data.reshape(*data.shape[:3], -1)
        if volumes.shape[3] > 1:
            fixes.append(f"{volumes.shape[3]} volumes: the first was used")
        data = volumes[..., 0]
    return np.array(data, dtype=np.float32)  # a copy: what follows writes into it


def _finite(data: np.ndarray, fixes: list[str]) -> np.ndarray:
    broken = ~np.isfinite(data)
    if broken.any():
        fixes.append(f"{broken.sum()} voxels were NaN or infinite: set to 0")
        data[broken] = 0
    return data


def _not_negative(data: np.ndarray, fixes: list[str]) -> np.ndarray:
    """Ringing below zero is cut; an image centred on zero (z-scores) is lifted as a whole.

    Where the background of a stripped scan was left at exactly 0, only the rest is lifted: it stays recognisable.
    """
    share = float((data < 0).mean())
    if share > 0.05:
        empty = data == 0
        stripped = bool(empty.mean() > EMPTY_SHARE)
        lift = -np.percentile(data[~empty] if stripped else data, 0.1)
        fixes.append(f"{share:.1%} of the voxels were negative: {lift:g} was added to all" + " others" * stripped)
        data += np.float32(lift)
        if stripped:
            data[empty] = 0
    elif share > 0:
        fixes.append(f"{share:.2%} of the voxels were negative: set to 0")
    return np.maximum(data, 0, out=data)


def _quiet_around(data: np.ndarray, fixes: list[str]) -> np.ndarray:
    """The uniform image of MP2RAGE, under whatever name, without the noise around its head."""
    if not has_noise_background(data):
        return data
    data, share = without_noise_background(data)
    if share:
        fixes.append(f"noise as bright as the head around it (MP2RAGE): {share:.0%} of the voxels were set to 0")
    return data


def _affine(image: SpatialImage, fixes: list[str]) -> np.ndarray:
    """sform, else qform, else the voxel sizes in RAS order, which is then reported."""
    affine = image.affine.copy()
    header = image.header
    if hasattr(header, "get_sform") and header["sform_code"] == 0 and header["qform_code"] == 0:
        fixes.append("no sform and no qform: axes taken as the file format's default; check left and right")
    unit = header.get_xyzt_units()[0] if hasattr(header, "get_xyzt_units") else "mm"
    factor = {"meter": 1000.0, "micron": 0.001}.get(unit, 1.0)
    if factor != 1.0:
        fixes.append(f"header in {unit}: converted to mm")
        affine[:3] *= factor
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-6:
        raise DataUnusable(
            "the header's orientation matrix is singular; repair it (for example with nib-ls, fslorient)"
        )
    return affine


def _check_size(image: nib.Nifti1Image) -> None:
    zooms = np.array(image.header.get_zooms()[:3], dtype=float)
    if zooms.min() < VOXEL_RANGE_MM[0] or zooms.max() > VOXEL_RANGE_MM[1]:
        raise DataUnusable(f"voxels of {zooms.round(3).tolist()} mm: no T1w scan of a head; check the header's units")
    field = zooms * image.shape
    if field.min() < SMALLEST_FIELD_MM:
        raise DataUnusable(f"a field of view of {field.round().tolist()} mm is too small to hold a brain")
