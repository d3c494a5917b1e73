"""Associations within groups, and how far groups lie apart."""

from __future__ import annotations

import numpy as np
import pytest

from imunity_bids.metrics.association import cliffs_delta, partial_spearman, shuffled_within

GROUPS = np.repeat(["a", "b"], 20)


def test_a_difference_between_groups_is_no_association(rng: np.random.Generator) -> None:
    """Group b is older and has more of everything, within the groups there is nothing."""
    shift = 10.0 * (GROUPS == "b")
    found = partial_spearman(shift + rng.normal(size=40), shift + rng.normal(size=40), GROUPS)
    assert found.low < 0 < found.high
    assert found.persons == 40


def test_what_goes_together_in_each_group_does_so_whatever_lies_between_them() -> None:
    a = np.tile(np.arange(20.0), 2)
    found = partial_spearman(a, -np.exp(a) + 1e12 * (GROUPS == "b"), GROUPS)
    assert found.r == pytest.approx(-1)
    one = partial_spearman(a[:20], a[:20] ** 3, GROUPS[:20])
    assert one.r == pytest.approx(1)


def test_the_interval_is_fishers() -> None:
    a = np.arange(12.0)
    b = a[[1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10]]
    found = partial_spearman(a, b, np.repeat("a", 12))
    assert found.r == pytest.approx(1 - 6 * 12 / (12 * 143))  # Spearman's own formula: Σ d² = 12
    assert np.arctanh(found.high) - np.arctanh(found.r) == pytest.approx(1.96 / 3)  # n - 1 group - 2 = 9


def test_too_few_or_all_alike_is_none() -> None:
    a = np.arange(40.0)
    assert partial_spearman(a[:9], a[:9], GROUPS[15:24]) is None
    assert partial_spearman(np.ones(40), a, GROUPS) is None
    assert partial_spearman(np.where(a < 35, np.nan, a), a, GROUPS) is None


def test_shuffling_stays_in_the_group() -> None:
    values = np.arange(40.0)
    mixed = shuffled_within(values, GROUPS, 0)
    assert (mixed != values).any()
    assert sorted(mixed[:20]) == list(values[:20])
    assert sorted(mixed[20:]) == list(values[20:])


def test_cliffs_delta() -> None:
    assert cliffs_delta(np.array([3.0, 4]), np.array([1.0, 2])) == 1
    assert cliffs_delta(np.array([1.0, 2]), np.array([1.0, 2])) == 0
    assert cliffs_delta(np.array([0.0, 0, 0, 1]), np.array([1.0, 1, 1, 1])) == pytest.approx(-0.75)  # shares
