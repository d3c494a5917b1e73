"""How far scanners lie apart in a measure, beside how far persons of one scanner do."""

from __future__ import annotations

import numpy as np
import pandas as pd

from imunity_bids.metrics.similarity import rank_correlation

DRAWS = 2000  # of the bootstrap
INTERVAL = (2.5, 97.5)  # percent


def spread(table: pd.DataFrame, measure: str, first: str) -> dict[str, dict[str, object]]:
    """By method: mean of each site, standard deviation between the sites' means, and mean of those within a site.

    Parameters
    ----------
    table
        A row per image: columns `site`, `person`, `method` and the measure. Images of one person are averaged; rows
        without the measure are left out.
    measure
        Name of a column.
    first
        The method to which the others' standard deviation between sites is compared.

    Returns
    -------
    dict
        `sites`, `within`, `between`, and `relative`, which is `between` of the method by that of `first`. These two
        have a 95 % interval (`…_interval`) from drawing the persons of each site anew, the same for every method.
    """
    persons = table.groupby(["site", "person", "method"])[measure].mean().unstack().dropna()
    by_site = {str(site): part for site, part in persons.groupby(level="site")}
    rng = np.random.default_rng(1)
    drawn = np.stack(
        [part.to_numpy()[rng.integers(len(part), size=(DRAWS, len(part)))].mean(axis=1) for part in by_site.values()]
    ).std(axis=0, ddof=1)  # (draws, methods)
    means = pd.DataFrame({site: part.mean() for site, part in by_site.items()})
    within = pd.DataFrame({site: part.std() for site, part in by_site.items()}).mean(axis=1)
    between, own = means.std(axis=1), list(persons.columns).index(first)
    found: dict[str, dict[str, object]] = {}
    for number, method in enumerate(persons.columns):
        ratios = drawn[:, number] / drawn[:, own]
        found[str(method)] = {
            "sites": means.loc[method].to_dict(),
            "between": float(between[method]),
            "between_interval": np.percentile(drawn[:, number], INTERVAL).tolist(),
            "relative": float(between[method] / between[first]),
            "relative_interval": np.percentile(ratios, INTERVAL).tolist(),
            "within": float(within[method]),
        }
    return found


def order_kept(table: pd.DataFrame, tissue: str, before: str = "raw") -> dict[str, dict[str, float]]:
    """Spearman's correlation of a tissue's volume with that before, by method: over all images, and the least of a
    site's (a shift between sites, which harmonization is to remove, changes the former alone). Images of which a method
    has no volume are left out."""
    wide = table.pivot_table(index=["site", "image"], columns="method", values=tissue).dropna()
    parts = [wide, *(part for _, part in wide.groupby(level="site"))]
    kept = {
        method: [rank_correlation(part[before].to_numpy(), part[method].to_numpy()) for part in parts]
        for method in wide.columns
    }
    return {str(method): {"all": found[0], "least_of_a_site": min(found[1:])} for method, found in kept.items()}
