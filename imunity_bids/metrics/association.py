"""Do two measures go together, and do two groups differ, whatever the shapes of their distributions?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import stats

Z = 1.96  # of a 95 % interval
LEAST_FREEDOM = 6  # with fewer degrees of freedom an interval says nothing


class Association(NamedTuple):
    """Partial rank correlation with its 95 % interval."""

    r: float
    low: float
    high: float
    persons: int


def partial_spearman(a: np.ndarray, b: np.ndarray, groups: np.ndarray) -> Association | None:
    r"""Spearman's correlation of `a` and `b` (n,) within groups (n,): the group is a covariate. 1 and -1 are strongest.

    .. math:: r(R_a - \bar R_a^g, \; R_b - \bar R_b^g)

    R are ranks over all persons, the bars their means over a person's group (a regression on dummies of the groups), r
    is Pearson's. The interval is Fisher's, :math:`\tanh(\operatorname{artanh} r \pm 1.96 / \sqrt{n - G - 2})` for G
    groups. Rows where `a` or `b` is not finite are left out; None where too few are left, or one of both is constant.
    Conover 1999, Practical Nonparametric Statistics, chapter 5; Fisher 1924, Metron 3.
    """
    known = np.isfinite(a) & np.isfinite(b)
    _, group = np.unique(groups[known], return_inverse=True)
    freedom = known.sum() - len(np.unique(group)) - 2
    if freedom < LEAST_FREEDOM:
        return None
    within_a, within_b = (_within(stats.rankdata(values[known]), group) for values in (a, b))
    norm = np.sqrt((within_a @ within_a) * (within_b @ within_b))
    if norm < 1e-9:
        return None
    r = float(np.clip(within_a @ within_b / norm, -1, 1))
    z = np.arctanh(np.clip(r, -1 + 1e-9, 1 - 1e-9))
    low, high = (float(np.tanh(z + side * Z / np.sqrt(freedom))) for side in (-1, 1))
    return Association(r, low, high, int(known.sum()))


def shuffled_within(values: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """The same values (n,) in each group, given to other members of it: nothing but the group is left to be told."""
    rng, out = np.random.default_rng(seed), values.copy()
    for group in np.unique(groups):
        (places,) = np.nonzero(groups == group)
        out[places] = values[rng.permutation(places)]
    return out


def cliffs_delta(a: np.ndarray, b: np.ndarray) -> float:
    r"""How far two groups (n,), (m,) lie apart: 0 alike, 1 where each of `a` is above each of `b`, -1 the reverse.

    .. math:: P(a > b) - P(a < b)

    For a variable of 0 and 1 it is the difference of the shares. A group that lies on both sides of the other, and
    nowhere in it, has 0 too. Cliff 1993, Psychological Bulletin 114.
    """
    return float(2 * stats.mannwhitneyu(a, b).statistic / (len(a) * len(b)) - 1)


def _within(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Minus the mean of the group."""
    return values - (np.bincount(group, values) / np.bincount(group))[group]
