"""How well a target was told of persons left out: pairs in the right order (AUC), or the mean error; with intervals."""

from __future__ import annotations

import numpy as np

DRAWS = 1000  # of the bootstrap
INTERVAL = (2.5, 97.5)  # percent


def ordered_pairs(answers: np.ndarray, positive: np.ndarray, groups: np.ndarray, weights: np.ndarray) -> np.ndarray:
    r"""Area under the ROC curve, of pairs within groups. Higher is better; 0.5 is guessing.

    .. math:: \frac{\sum_g \sum_{i \in P_g, j \in N_g} w_i w_j \, (1[a_i > a_j] + \tfrac12 1[a_i = a_j])}
                   {\sum_g \sum_{i \in P_g, j \in N_g} w_i w_j}

    Over groups g of one fold it needs no common scale of classifiers that learned from different persons; over groups
    of one site it cannot profit from a site that has more patients. With one group it is the usual AUC (Hanley and
    McNeil 1982, Radiology 143).

    Parameters
    ----------
    answers, positive, groups
        (n,): numbers, bool, and what a pair has to have in common.
    weights
        (draws, n): how often each row is drawn.

    Returns
    -------
    numpy.ndarray
        (draws,); NaN where no group has both classes.
    """
    right, pairs = np.zeros(len(weights)), np.zeros(len(weights))
    for group in np.unique(groups):
        ill, well = ((groups == group) & side for side in (positive, ~positive))
        difference = answers[ill][:, None] - answers[well][None]
        order = (difference > 0) + 0.5 * (difference == 0)
        right += ((weights[:, ill] @ order) * weights[:, well]).sum(axis=1)
        pairs += weights[:, ill].sum(axis=1) * weights[:, well].sum(axis=1)
    return np.divide(right, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)


def mean_error(answers: np.ndarray, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean absolute error in the unit of the target, (draws,); lower is better. `weights` as in `ordered_pairs`."""
    return (weights @ np.abs(answers - target)) / np.maximum(weights.sum(axis=1), 1)


def draws_of(persons: np.ndarray, count: int = DRAWS) -> np.ndarray:
    """How often each row is drawn when persons are drawn with replacement, (1 + count, n); first, each once."""
    names, who = np.unique(persons, return_inverse=True)
    drawn = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), size=count)
    return np.concatenate([np.ones((1, len(persons))), drawn[:, who].astype(float)])


def with_interval(values: np.ndarray) -> tuple[float, float, float]:
    """The value of all rows, and the 95 % interval of the draws; `values` as for `draws_of`."""
    low, high = np.nanpercentile(values[1:], INTERVAL) if np.isfinite(values[1:]).any() else (np.nan, np.nan)
    return float(values[0]), float(low), float(high)
