from __future__ import annotations

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine

from imunity_bids.image.resample import isotropic_grid, resample


def ramp(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """An intensity that is linear in mm: interpolation must reproduce it exactly."""
    position = apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1))
    return (position @ [1.0, -2.0, 0.5] + 7).astype(np.float32)


def oblique() -> np.ndarray:
    turn = nib.eulerangles.euler2mat(0.2, -0.3, 0.1)
    return nib.affines.from_matvec(turn @ np.diag([1.0, 1.2, 0.9]), [-30, -25, -20])


def test_a_linear_ramp_survives_any_change_of_grid() -> None:
    source, target = oblique(), nib.affines.from_matvec(np.diag([2.0, 2, 2]), [-8, -5, -3])
    data = ramp((60, 50, 55), source)
    for supersample in (1, 2):
        out = resample(data, source, (10, 9, 8), target, supersample)
        # float32 sampling positions: a few 1e-4 of a voxel
        np.testing.assert_allclose(out, ramp((10, 9, 8), target), atol=5e-3)


def test_outside_is_zero() -> None:
    out = resample(np.ones((10, 10, 10)), np.eye(4), (4, 4, 4), nib.affines.from_matvec(np.eye(3), [100, 0, 0]))
    assert (out == 0).all()


def test_the_isotropic_grid_covers_the_volume_and_is_a_multiple() -> None:
    affine = oblique()
    shape, target = isotropic_grid((60, 50, 55), affine, 2.0, 16)
    assert all(n % 16 == 0 for n in shape)
    corners = apply_affine(np.linalg.inv(target) @ affine, [[0, 0, 0], [59, 49, 54], [59, 0, 54], [0, 49, 0]])
    assert (corners >= -0.5).all()
    assert (corners <= np.array(shape) - 0.5).all()
