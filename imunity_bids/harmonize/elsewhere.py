"""The harmonized brain in other spaces than the models': interpolated once from the scan's voxels, or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from imunity_bids.harmonize.curves import apply_curve
from imunity_bids.image.spaces import on_grid

TINY = 1e-5  # what tables of curves differ by; a change by noise or smoothness is larger


@dataclass(frozen=True)
class Placed:
    """Voxels, and the way to them.

    Attributes
    ----------
    grid
        That of the voxels.
    way
        ITK transform, points of the space that is wanted to points of this one; None where the grids are the same.
    """

    grid: nib.Nifti1Image
    way: Path | None

    def brought(self, data: np.ndarray, wanted: nib.Nifti1Image, interpolator: str) -> np.ndarray:
        """`data` on this grid, on the wanted one."""
        return data if self.way is None else on_grid(data, self.grid, wanted, self.way, interpolator)


def elsewhere(
    wanted: nib.Nifti1Image,
    scan: Placed,
    head: np.ndarray,
    models: Placed,
    striped: np.ndarray,
    harmonized: np.ndarray,
    curve: np.ndarray | None,
) -> np.ndarray:
    """The harmonized brain on the wanted grid, float32 in [0, 1], not masked.

    Where one curve made it, the curve is applied to the scan's own voxels. What was changed besides, noise and
    smoothness, is brought from the models' space and added. What a generator painted is brought as it is.

    Parameters
    ----------
    scan, head
        Where the scan's own voxels are, and their intensities without bias field, on the models' scale, in [0, 1].
    models, striped, harmonized
        Where the models worked, what they were given and what came out.
    curve
        (FINE,), or None.
    """
    if curve is None:
        return models.brought(harmonized, wanted, "bSpline").clip(0, 1)
    made = scan.brought(apply_curve(curve, head), wanted, "bSpline")
    change = harmonized - apply_curve(curve, striped)
    if np.abs(change).max() > TINY:
        made = made + models.brought(change, wanted, "linear")
    return made.clip(0, 1)
