"""Shape of masks whose shape is known."""

from __future__ import annotations

import numpy as np
import pytest

from imunity_bids.metrics.shape import mask_shape


def test_a_box() -> None:
    mask = np.zeros((20, 20, 20), bool)
    mask[4:14, 5:10, 6:8] = True  # 10 × 5 × 2
    shape = mask_shape(mask, 2.0)
    assert shape["volume_ml"] == pytest.approx(0.8)
    assert [shape[f"width_{axis}"] for axis in "xyz"] == [20, 10, 4]
    assert shape["surface_share"] == 1  # two voxels thick
    assert shape["elongation"] == pytest.approx(np.sqrt(24 / 99))  # variance of n places: (n² - 1) / 12
    assert shape["flatness"] == pytest.approx(np.sqrt(3 / 99))


def test_a_ball_is_round_and_a_voxel_is_none(ball: np.ndarray) -> None:
    shape = mask_shape(ball, 1.0)
    assert shape["elongation"] == pytest.approx(1, abs=1e-6)
    assert shape["volume_ml"] == pytest.approx(4 / 3 * np.pi * 8, rel=0.01)
    assert shape["surface_share"] == pytest.approx(3 / 20, rel=0.25)  # surface by volume of a ball of radius 20
    voxel = np.zeros((3, 3, 3), bool)
    voxel[1, 1, 1] = True
    assert mask_shape(voxel, 1.0)["flatness"] == 0
