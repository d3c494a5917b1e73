"""On whom to unlearn, and when not to: sections 2.4.3 and 2.4.5, and the limit that section 4 names."""

from __future__ import annotations

import numpy as np
import pandas as pd

from imunity_bids.errors import DataUnusable, Usage

BINS = 5  # of a continuous outcome, when a subset is balanced over it
FEW = 2  # persons in the range of another site that link the two


def overlap(values: np.ndarray, sites: np.ndarray) -> np.ndarray:
    """Whose value lies in the range that all sites share, (n,) bool; missing values (NaN) do not.

    Raises
    ------
    Usage
        The sites share no range.
    """
    known = ~np.isnan(values)
    ranges = [(values[known & (sites == s)].min(), values[known & (sites == s)].max()) for s in np.unique(sites[known])]
    low, high = max(r[0] for r in ranges), min(r[1] for r in ranges)
    inside = known & (values >= low) & (values <= high)
    if not inside.any():
        raise Usage("--unlearn-on overlap: no range of the outcome is seen at every site; name a subset by a query")
    return inside


def balanced(labels: np.ndarray, strata: np.ndarray, seed: int = 1) -> np.ndarray:
    """A subset, (n,) bool, in which every label is as frequent as every other within each stratum.

    Parameters
    ----------
    labels
        Of the nuisance, (n,).
    strata
        What it may not follow, such as the site or `bins_of` the outcome, (n,).
    seed
        Of the choice.

    Raises
    ------
    Usage
        No stratum has all labels.
    """
    rng, chosen = np.random.default_rng(seed), np.zeros(len(labels), bool)
    kinds = np.unique(labels)
    for stratum in np.unique(strata):
        members = [np.flatnonzero((strata == stratum) & (labels == kind)) for kind in kinds]
        count = min(len(part) for part in members)
        for part in members:
            chosen[rng.permutation(part)[:count]] = True
    if not chosen.any():
        raise Usage("--unlearn-on balanced: nowhere are all labels of the nuisance seen together")
    return chosen


def bins_of(values: np.ndarray) -> np.ndarray:
    """A continuous outcome in quantiles, (n,) int; words, and numbers of few values, are their own strata."""
    if values.dtype.kind in "fi" and len(np.unique(values)) > BINS:
        return np.searchsorted(np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1]), values)
    return np.unique(values, return_inverse=True)[1]


def queried(table: pd.DataFrame, query: str) -> np.ndarray:
    """Rows of participants.tsv that a pandas query selects, (n,) bool, such as "age > 40 and group == 'control'".

    Raises
    ------
    Usage
        The query is wrong, or selects nobody.
    """
    try:
        rows = table.reset_index(drop=True).query(query).index
    except Exception as error:  # pandas raises whatever its parser meets
        raise Usage(f"--unlearn-on {query!r}: {error}") from None
    chosen = np.zeros(len(table), bool)
    chosen[rows] = True
    if not chosen.any():
        raise Usage(f"--unlearn-on {query!r} selects nobody")
    return chosen


def refuse_confounded(values: np.ndarray, labels: np.ndarray, name: str = "site") -> None:
    """Raise where nuisance and outcome are one: nothing can tell then which of the two a difference comes from.

    Two sites are linked where they share a class of the outcome, or where at least two persons of each lie in the
    range of the other. All have to be linked, through others if need be.

    Parameters
    ----------
    values
        Outcome, (n,): numbers, or words.
    labels
        Site or other nuisance of the same persons, (n,).

    Raises
    ------
    DataUnusable
        They fall apart.
    """
    groups = {label: values[labels == label] for label in np.unique(labels)}
    reached = [next(iter(groups))]
    for label in reached:
        reached += [other for other in groups if other not in reached and _linked(groups[label], groups[other])]
    if missing := [str(label) for label in groups if label not in reached]:
        raise DataUnusable(
            f"{name} and outcome are fully confounded: no value of the outcome at {', '.join(missing)} is seen at "
            f"{', '.join(str(label) for label in reached)} too, so that to forget the {name} is to forget the outcome; "
            "add persons who link them, unlearn on others who do (--unlearn-on QUERY), or --allow-confounded"
        )


def _linked(a: np.ndarray, b: np.ndarray) -> bool:
    if a.dtype.kind not in "fi":
        return bool(set(a) & set(b))
    low, high = max(a.min(), b.min()), min(a.max(), b.max())
    return all(((part >= low) & (part <= high)).sum() >= FEW for part in (a, b))
