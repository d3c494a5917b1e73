"""Linear ways between the models' space and others, and one interpolation along them."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from imunity_bids.image.ants_bridge import apply, read_motion, write_motion


def chained(path: Path, first: Path, *others: Path) -> Path:
    """One ITK transform instead of several: points go through `first`, then the others."""
    motion = read_motion(first)
    for other in others:
        motion = read_motion(other) @ motion
    return write_motion(path, motion)


def write_identity(path: Path) -> Path:
    """The ITK transform that moves nothing."""
    return write_motion(path, np.eye(4))


def on_grid(
    data: np.ndarray, moving: nib.Nifti1Image, grid: nib.Nifti1Image, transform: Path, interpolator: str
) -> np.ndarray:
    """`data` on the grid of `moving`, brought to that of `grid`, float32.

    Where voxels of `grid` are larger, each is the mean of what is interpolated at points evenly inside it: a coarse
    grid that takes single points has aliases of what is finer.
    """
    coarser = np.array(grid.header.get_zooms()[:3]) / moving.header.get_zooms()[:3]
    times = max(1, round(float(coarser.max())))
    fine = apply(data, moving, _finer(grid, times), transform, interpolator)
    x, y, z = grid.shape[:3]
    return fine.reshape(x, times, y, times, z, times).mean(axis=(1, 3, 5), dtype=np.float32)


def _finer(grid: nib.Nifti1Image, times: int) -> nib.Nifti1Image:
    """Every voxel cut into times³; no voxels of its own in memory."""
    inside = nib.affines.from_matvec(np.eye(3) / times, np.full(3, (1 / times - 1) / 2))
    shape = tuple(times * length for length in grid.shape[:3])
    return nib.Nifti1Image(np.broadcast_to(np.float32(0), shape), grid.affine @ inside)
