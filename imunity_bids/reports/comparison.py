"""What the group level says about sites: contrast, probes, biology, and what cannot be told apart or said at all."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from imunity_bids.metrics.association import cliffs_delta, partial_spearman, shuffled_within
from imunity_bids.metrics.spread import spread
from imunity_bids.metrics.tissue_classes import TISSUES
from imunity_bids.metrics.tissue_ratios import RATIOS
from imunity_bids.qc.features import AFTER, BEFORE, BLURRED, MATCHED
from imunity_bids.reports.cohort import Cohort
from imunity_bids.reports.sentences import PERMUTED
from imunity_bids.reports.telling import answer, questions

METHODS = (BEFORE, MATCHED, AFTER)
APART = 0.8  # Cliff's delta from which two sites' ages or sexes hardly overlap
FEWEST = 2  # persons of a site, for a spread within it


def compare(cohort: Cohort, jobs: int = 1) -> dict[str, Any]:
    """All comparisons, for `sites.json`: `contrast`, `probes`, `biology`, `confounded`, `unsaid` (in words).

    `jobs` probes run at the same time.
    """
    unsaid = list(cohort.notes)
    asked = questions(cohort)
    probes = Parallel(n_jobs=min(jobs, max(1, len(asked))))(delayed(answer)(q, cohort.compared) for q in asked)
    contrast = _contrast(cohort, unsaid)
    return {
        "main": cohort.main,
        "site_from": cohort.site_from,
        "contrast": contrast,
        "probes": list(probes),
        "biology": _biology(cohort, unsaid),
        "confounded": confounded(cohort.compared),
        "unsaid": unsaid,
    }


def _contrast(cohort: Cohort, unsaid: list[str]) -> dict[str, Any]:
    """`metrics.spread` of both ratios, `relative` being to before; empty where there are not two sites to compare."""
    table = cohort.features[cohort.features.method != BLURRED]
    persons = table.groupby("site").person.nunique()
    few = sorted(persons.index[persons < FEWEST])
    if len(persons) - len(few) < 2:
        unsaid.append(
            f"How far sites lie apart cannot be said: that needs two sites with {FEWEST} persons each whose features "
            f"are stored; there are {len(persons) - len(few)}."
        )
        return {}
    if few:
        unsaid.append(f"Left out of the contrast of sites, having one person only: {', '.join(few)}.")
    table = table[~table.site.isin(few)]
    found = {}
    for ratio in RATIOS:
        complete = table.groupby(["site", "person"])[ratio].apply(lambda values: values.notna().all())
        if complete.groupby(level="site").sum().ge(FEWEST).all():
            found[ratio] = spread(table, ratio, BEFORE)
        else:
            unsaid.append(f"{ratio}: a site has less than {FEWEST} persons in whom the tissue was found.")
    return found


def _biology(cohort: Cohort, unsaid: list[str]) -> list[dict[str, Any]]:
    """Partial rank correlations, a row per column and tissue, `methods` by name.

    Volumes are shares of the brain mask: the size of a head is no tissue. Images of one person at one site are
    averaged.
    """
    table = cohort.features[cohort.features.method.isin(METHODS)].copy()
    if table.empty:
        return []
    table[list(TISSUES)] = table[list(TISSUES)].div(table[list(TISSUES)].sum(axis=1), axis=0)
    volumes = table.groupby(["site", "person", "method"])[list(TISSUES)].mean().unstack("method")
    sites = volumes.index.get_level_values("site").to_numpy(str)
    rows = []
    columns = _columns(cohort, volumes.index, unsaid)
    for (name, values), tissue in itertools.product(columns.items(), TISSUES):
        found = {m: partial_spearman(values, volumes[tissue, m].to_numpy(), sites) for m in METHODS}
        if all(found.values()):
            rows.append({"column": name, "tissue": tissue, "methods": {m: a._asdict() for m, a in found.items()}})
        elif tissue == TISSUES[0]:
            unsaid.append(f"Whether {name} goes with tissue volumes cannot be said: too few persons, or all alike.")
    return rows


def _columns(cohort: Cohort, persons: pd.MultiIndex, unsaid: list[str]) -> dict[str, np.ndarray]:
    """Values by name of the column, in the order of the persons; the last one is permuted."""
    people = cohort.compared.drop_duplicates("participant_id").set_index("participant_id")
    people = people.loc[persons.get_level_values("person")]
    found: dict[str, np.ndarray] = {}
    for name in ("age", "sex", *cohort.kept):
        values = as_numbers(people[name])
        if values is None:
            unsaid.append(f"{name} has neither numbers nor two values: it is in no association.")
        elif np.isfinite(values).any():
            found[name] = values
        else:
            unsaid.append(f"participants.tsv has no {name} for these persons.")
    if found:
        first = next(iter(found))
        sites = persons.get_level_values("site").to_numpy(str)
        found[f"{first}, {PERMUTED}"] = shuffled_within(found[first], sites, seed=0)
    return found


def as_numbers(column: pd.Series) -> np.ndarray | None:
    """Numbers as they are, two texts as 0 and 1 in alphabetical order, NaN where unknown; None for any other column."""
    known = column.replace({"": np.nan, "n/a": np.nan})
    numbers = pd.to_numeric(known, errors="coerce")
    if numbers.notna().sum() == known.notna().sum():
        return numbers.to_numpy(float)
    values = sorted(known.dropna().unique())
    codes = {value: float(number) for number, value in enumerate(values)}
    return known.map(codes).to_numpy(float) if len(values) == 2 else None


def confounded(images: pd.DataFrame) -> list[dict[str, Any]]:
    """Pairs of sites whose persons hardly overlap in age or in sex (|Cliff's delta| of 0.8 and more)."""
    persons = images[images.site != ""].drop_duplicates(["site", "participant_id"])
    traits = {"age": persons.age, "sex": persons.sex.map({"F": 1.0, "M": 0.0})}
    found = []
    for name, values in traits.items():
        groups = {site: part.dropna().to_numpy() for site, part in values.groupby(persons.site)}
        for a, b in itertools.combinations([site for site, part in groups.items() if len(part) >= FEWEST], 2):
            delta = cliffs_delta(groups[a], groups[b])
            if abs(delta) >= APART:
                found.append({"covariate": name, "sites": [a, b], "delta": delta})
    return found
