"""The paper's figure 5: AUC of the diagnosis, before and after, on 2 … S sites and many combinations of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from math import comb
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from imunity_bids.bids.outputs import write_text
from imunity_bids.evaluation.cohort_folds import auc
from imunity_bids.evaluation.cohort_methods import Method
from imunity_bids.evaluation.cohort_rows import Rows
from imunity_bids.evaluation.diagnosis_plots import plot_combinations

Pair = tuple[Rows, Method]
LEAST = 4  # persons of the rarer class


def combinations(sites: list[str], most: int, seed: int = 0) -> Iterator[tuple[str, ...]]:
    """Of 2, 3, … all of the sites: all combinations, or `most` random ones of each size."""
    rng = np.random.default_rng(seed)
    for size in range(2, len(sites) + 1):
        if comb(len(sites), size) <= most:
            yield from itertools.combinations(sites, size)
            continue
        drawn: set[tuple[str, ...]] = set()
        while len(drawn) < most:
            drawn.add(tuple(sorted(rng.choice(sites, size, replace=False).tolist())))
        yield from sorted(drawn)


def auc_by_combination(
    methods: Mapping[str, Pair], most: int = 55, folds: int = 10, seed: int = 0, jobs: int = 1
) -> pd.DataFrame:
    """A row per combination and method: `sites` (how many), `combination`, `method`, `auc`.

    Combinations with fewer than `LEAST` persons of a class are left out.

    Parameters
    ----------
    methods
        Rows of the same persons and sites, and what is fitted in each fold, by name.
    most
        Combinations of each size; the paper's are 55.
    """
    rows = next(iter(methods.values()))[0]
    chosen = [names for names in combinations(sorted(set(rows.site)), most, seed) if _rarest(rows, names) >= LEAST]
    parts = Parallel(n_jobs=jobs)(delayed(_one)(methods, names, folds, seed) for names in chosen)
    return pd.DataFrame([row for part in parts for row in part])


def summary_by_number(table: pd.DataFrame, first: str) -> pd.DataFrame:
    """By number of sites and method: mean and standard deviation of the AUC over combinations, and the best one's.

    The best is, as in the paper, the combination whose AUC gains most over the method `first`: chosen by its result, it
    is no estimate of what to expect.
    """
    wide = table.pivot_table(index=["sites", "combination"], columns="method", values="auc", sort=False)
    rows = []
    for count, part in wide.groupby(level="sites"):
        for method in wide.columns:
            best = (part[method] - part[first]).idxmax()
            rows.append(
                {
                    "sites": count,
                    "combinations": len(part),
                    "method": method,
                    "auc": part[method].mean(),
                    "sd": part[method].std(ddof=0),
                    "best": part.loc[best, method],
                    "best before": part.loc[best, first],
                    "best combination": best[1],
                }
            )
    return pd.DataFrame(rows)


def write_combinations(table: pd.DataFrame, first: str, output: Path, stem: str) -> pd.DataFrame:
    """`STEM_combinations.tsv` and `.png`; returns the summary."""
    summary = summary_by_number(table, first)
    text = summary.to_csv(sep="\t", index=False, float_format="%.4g")
    write_text(output / f"{stem}_combinations.tsv", text)
    plot_combinations(summary, first, output / f"{stem}_combinations.png")
    return summary


def _one(methods: Mapping[str, Pair], names: tuple[str, ...], folds: int, seed: int) -> list[dict[str, object]]:
    about = {"sites": len(names), "combination": ", ".join(names)}
    found = []
    for name, (rows, method) in methods.items():
        part = rows.take(np.isin(rows.site, names))
        found.append({**about, "method": name, "auc": auc(part, method, folds, seed)})
    return found


def _rarest(rows: Rows, names: tuple[str, ...]) -> int:
    """Rows of the rarer class at these sites."""
    ill = rows.target[np.isin(rows.site, names)] > 0
    return int(min(ill.sum(), (~ill).sum()))
