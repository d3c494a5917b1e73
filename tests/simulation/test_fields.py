"""Transmit and receive fields."""

from __future__ import annotations

import numpy as np
import pytest

from imunity_bids.simulation.fields import (
    receive_field,
    smooth_field,
    squared_distance_in,
    transmit_field,
)


def test_the_flip_angle_falls_from_the_middle_to_the_rim_by_the_excess() -> None:
    field = transmit_field(np.array([0.0, 0.5, 1.0]), 0.2)
    assert field.mean() == pytest.approx(1)
    assert (field[0] - field[2]) / field[2] == pytest.approx(0.2)
    assert field[1] == pytest.approx((field[0] + field[2]) / 2)  # linear in the squared distance


def test_far_outside_the_brain_the_field_is_flat() -> None:
    field = transmit_field(np.array([0.0, 1.5, 9.0]), 0.2)
    assert field[1] == field[2]


def test_no_excess_is_no_field() -> None:
    np.testing.assert_array_equal(transmit_field(np.linspace(0, 2, 9), 0.0), np.ones(9))


def test_the_mean_is_taken_in_the_brain() -> None:
    distance, inside = np.linspace(0, 3, 100), np.arange(100) < 30
    assert transmit_field(distance, 0.3, inside)[inside].mean() == pytest.approx(1)
    assert transmit_field(distance, 0.3, inside).mean() < 0.95


def test_distance_is_counted_in_half_widths_of_the_brain() -> None:
    mask = np.zeros((31, 21, 11), bool)
    mask[5:26, 5:16, 3:8] = True  # middle 15, 10, 5; half widths 10, 5, 2
    distance = squared_distance_in(mask, np.zeros(3))
    assert distance.shape == mask.shape
    assert distance[15, 10, 5] == 0
    assert distance[25, 10, 5] == distance[15, 15, 5] == distance[15, 10, 7] == 1
    moved = squared_distance_in(mask, np.array([10.0, 0, 0]))
    assert moved[25, 10, 5] == 0


def test_the_receive_field_is_smooth_and_bounded(rng: np.random.Generator) -> None:
    field = receive_field((40, 40, 40), 0.3, rng)
    assert np.abs(np.log(field)).max() == pytest.approx(0.3, rel=1e-5)
    # Four random nodes along 40 voxels: from voxel to voxel it changes by a small share of its range.
    assert np.abs(np.diff(np.log(field), axis=0)).max() < 0.3 * 0.4


def test_the_field_that_is_learned_from_is_smooth_and_at_most_one(rng: np.random.Generator) -> None:
    position = np.stack(np.meshgrid(*3 * [np.linspace(-1, 1, 11)], indexing="ij"), axis=-1).reshape(-1, 3)
    field = smooth_field(position, rng)
    assert np.abs(field).max() == pytest.approx(1)
    assert abs(field.mean()) < 0.5
    assert np.abs(np.diff(field.reshape(11, 11, 11), axis=2)).max() < 0.8
