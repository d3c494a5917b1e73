"""Ways between spaces, and one interpolation along them."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from imunity_bids.image.ants_bridge import read_motion, write_motion
from imunity_bids.image.spaces import chained, on_grid, write_identity


def grid(mm: float, shape: tuple[int, int, int], origin: float = 0.0) -> nib.Nifti1Image:
    affine = np.diag([mm, mm, mm, 1.0])
    affine[:3, 3] = origin
    return nib.Nifti1Image(np.zeros(shape, np.float32), affine)


def test_points_go_through_the_first_transform_first(tmp_path: Path) -> None:
    shift, double = np.eye(4), np.diag([2.0, 2.0, 2.0, 1.0])
    shift[:3, 3] = 1, 2, 3
    first, second = write_motion(tmp_path / "a.mat", shift), write_motion(tmp_path / "b.mat", double)
    whole = read_motion(chained(tmp_path / "c.mat", first, second))
    np.testing.assert_allclose(whole @ [0, 0, 0, 1], [2, 4, 6, 1], atol=1e-12)


def test_a_coarse_voxel_is_the_mean_of_those_inside_it(tmp_path: Path) -> None:
    """2 mm on 1 mm, borders on borders: eight voxels each, also of noise, which single points would keep in full."""
    noise = np.random.default_rng(1).random((12, 8, 10)).astype(np.float32)
    coarse = grid(2.0, (6, 4, 5), origin=0.5)
    made = on_grid(noise, grid(1.0, noise.shape), coarse, write_identity(tmp_path / "i.mat"), "linear")
    np.testing.assert_allclose(made, noise.reshape(6, 2, 4, 2, 5, 2).mean(axis=(1, 3, 5)), atol=1e-6)


def test_on_as_fine_a_grid_points_are_taken(tmp_path: Path) -> None:
    ramp = np.broadcast_to(np.arange(12, dtype=np.float32)[:, None, None], (12, 6, 6))
    made = on_grid(
        ramp, grid(1.0, ramp.shape), grid(1.0, (10, 6, 6), 0.5), write_identity(tmp_path / "i.mat"), "linear"
    )
    assert made[:, 3, 3] == pytest.approx(np.arange(10) + 0.5)
