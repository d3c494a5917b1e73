"""The same contest on images: what each method made of one input, and methods on the features of that input."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from imunity_bids.bids.outputs import write_text
from imunity_bids.evaluation.cohort_images import IMAGES, STRIPED, derivative_table
from imunity_bids.evaluation.cohort_methods import FLOORS, METHODS, NETWORKS, NONE, methods_named
from imunity_bids.evaluation.cohort_rows import Rows, rows_of
from imunity_bids.evaluation.diagnosis import Contestant, Protocol, compare
from imunity_bids.evaluation.planted import ONE_CURVE, ONE_SCANNER, Plan, planted_table
from imunity_bids.evaluation.site_combinations import auc_by_combination, write_combinations

log = logging.getLogger(__name__)


def image_rows(
    table: pd.DataFrame,
    name: str,
    output: Path,
    targets: Sequence[str],
    methods: Sequence[str],
    protocol: Protocol,
    most: int,
) -> list[dict[str, object]]:
    """Rows of `diagnosis.compare` for each target; with `most`, figure 5 of the diagnoses among them, in files.

    Parameters
    ----------
    table
        As from `derivative_table`.
    name
        Of the data.
    methods
        On the features of white-striped images (default: all).
    """
    found: list[dict[str, object]] = []
    for target in targets:
        contestants = _contestants(table, name, target, methods)
        found += [{"data": name, "target": target, **row} for row in compare(contestants, STRIPED, output, protocol)]
        slow = [_on_features(name) for name in NETWORKS]
        drawn = {one.name: (one.rows, one.method) for one in contestants if one.name not in (*FLOORS, *slow)}
        if most and contestants[0].rows.classes and len(set(contestants[0].rows.site)) > 1:
            aucs = auc_by_combination(drawn, most, protocol.folds, jobs=protocol.jobs)
            write_combinations(aucs, STRIPED, output, f"{name}_{target}")
    return found


def derivative_rows(
    folders: Sequence[Path],
    output: Path,
    targets: Sequence[str],
    site_column: str,
    methods: Sequence[str],
    protocol: Protocol,
    most: int,
) -> list[dict[str, object]]:
    """Of derivatives of the participant level; features are kept in `derivatives_features.tsv`."""
    table = derivative_table(folders, targets, site_column, protocol.jobs)
    write_text(output / "derivatives_features.tsv", table.to_csv(sep="\t", index=False, na_rep="n/a"))
    return image_rows(table, "derivatives", output, targets, methods, protocol, most)


def planted_rows(
    maps: Path, model: Path, plan: Plan, output: Path, methods: Sequence[str], protocol: Protocol, most: int
) -> list[dict[str, object]]:
    """Of a simulated cohort; its features are kept in `planted_….tsv`, those of each person in a folder."""
    shares = "-".join(f"{share:g}" for share in plan.shares)
    ages = "to".join(f"{age:g}" for age in plan.ages)
    name = f"planted_{plan.persons}_{shares}_{ages}y_{plan.widening_mm:g}mm_at_{plan.spacing_mm:g}mm_{plan.seed}"
    table = planted_table(maps, model, plan, output / "persons", protocol.jobs)
    write_text(output / f"{name}_features.tsv", table.to_csv(sep="\t", index=False, na_rep="n/a"))
    return image_rows(table, name, output, ("dx", "age"), methods, protocol, most)


def _contestants(table: pd.DataFrame, name: str, target: str, methods: Sequence[str]) -> list[Contestant]:
    """Floors, images, and methods on the features of the white-striped ones; those that need sites, where there are."""
    by_method: dict[str, Rows] = {
        method: rows_of(table[table.method == method], target, "f_*", name)
        for method in (*IMAGES, ONE_CURVE, ONE_SCANNER)
        if (table.method == method).any()
    }
    striped = by_method[STRIPED]
    sites = len(set(striped.site))
    if sites < 2:
        log.warning("%s, %s: one site; nothing can be said of others", name, target)
    on_features = {key: method for key, method in methods_named(list(methods)).items() if key != NONE}
    floors = {key: on_features.pop(key) for key in FLOORS if key in on_features}
    return [
        *(Contestant(key, striped, method) for key, method in floors.items() if sites > 1 or key == FLOORS[0]),
        *(Contestant(key, rows, METHODS[NONE]) for key, rows in by_method.items()),
        *(Contestant(_on_features(key), striped, method) for key, method in on_features.items() if sites > 1),
    ]


def _on_features(method: str) -> str:
    return f"{method} on features"
