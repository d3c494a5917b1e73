"""`imunity-evaluate unlearning`: the paper's experiments, one after the other, each kept when it is done."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed

from imunity_bids.bids.outputs import write_json, write_text
from imunity_bids.evaluation import unlearning_experiments as experiments
from imunity_bids.evaluation.unlearning_cohort import Clinic, load_or_make
from imunity_bids.evaluation.unlearning_experiments import PAIR, TRIO
from imunity_bids.evaluation.unlearning_methods import FULL, QUICK, Scale
from imunity_bids.evaluation.unlearning_plots import plot_features
from imunity_bids.evaluation.unlearning_tables import scan_rows, table_rows
from imunity_bids.simulation.cohort import split_by_map

log = logging.getLogger(__name__)
Rows = Callable[[], Iterator[dict[str, Any]]]
RELATIVES = 5  # one person in so many of the label maps that are trained on is kept to be judged by


def evaluate_unlearning(
    output: Path,
    quick: bool = False,
    maps: Path | None = None,
    tables: Sequence[Path] = (),
    derivatives: Sequence[Path] = (),
    tasks: Sequence[str] = ("age",),
    seed: int = 1,
    jobs: int = 1,
) -> pd.DataFrame:
    """Run what there is data for; writes `<experiment>.json`, `unlearning.tsv` and `unlearning.json`, and pictures.

    An experiment whose JSON is there is not run again, so that a killed evaluation goes on.
    """
    scale = QUICK if quick else FULL
    scale = replace(scale, schedule=replace(scale.schedule, seed=seed))
    todo: dict[str, Rows] = {}
    if maps is not None:
        todo |= _simulated(output, maps, scale, quick, jobs)
    for file in tables:
        todo[f"table_{file.stem}"] = partial(table_rows, file, _for_tables(scale))
    for task in tasks if derivatives else ():
        todo[f"scans_{task}"] = partial(_real, list(derivatives), task, scale)
    parts = Parallel(n_jobs=jobs)(delayed(_kept)(output / f"{name}.json", name, run) for name, run in todo.items())
    rows = [row for part in parts for row in part]
    write_json(output / "unlearning.json", rows)
    table = pd.DataFrame([_flat(row) for row in rows])
    write_text(output / "unlearning.tsv", table.to_csv(sep="\t", index=False, float_format="%.4g", na_rep="n/a"))
    return table


def _simulated(output: Path, maps: Path, scale: Scale, quick: bool, jobs: int) -> dict[str, Rows]:
    """The experiments by letter; the quick ones leave out conditions, not experiments."""
    members = load_or_make(output, maps, scale.persons, scale.spacing_mm, scale.schedule.seed, jobs, vary=True)
    training, judges = split_by_map(members, scale.held_out_maps)
    clinic = Clinic(scale.sites, scale.spacing_mm)
    pictures: Callable[[str, np.ndarray, np.ndarray], None] = partial(plot_features, output)
    known = [member for number, member in enumerate(training) if number % RELATIVES]
    relatives, judges = training[::RELATIVES][: scale.judged], judges[: scale.judged]
    setting = experiments.Setting(known, relatives, judges, clinic, scale, pictures)
    groups, years = ((TRIO,), (5,)) if quick else ((PAIR, TRIO), (5, 10, 15))
    conditions, labels = (("age",), (0,)) if quick else (("independent", "site", "age"), (0, 4, 16))
    return {
        "a": partial(experiments.age_on_scanners, setting, groups),
        "b": partial(experiments.age_trained_on_one, setting),
        "c": partial(experiments.age_overlap, setting, years),
        "d": partial(experiments.many_sites, setting),
        "e": partial(experiments.sex_as_confound, setting, conditions),
        "f": partial(experiments.age_as_confound, setting),
        "g": partial(experiments.segmentation, setting, labels),
    }


def _real(folders: list[Path], task: str, scale: Scale) -> Iterator[dict[str, Any]]:
    from imunity_bids.unlearning.cases import column_cases
    from imunity_bids.unlearning.scans import find_scans

    kind = "regression" if task == "age" else "classification"
    cases = column_cases(find_scans(folders), task, kind, ("site",), "all", True, scale.spacing_mm)
    known = cases.samples.labelled.nonzero()[:, 0]
    yield from scan_rows(cases.samples.take(known), cases.persons[known.numpy()], cases.task, scale)


def _kept(file: Path, name: str, run: Rows) -> list[dict[str, Any]]:
    if file.is_file():
        return json.loads(file.read_text(encoding="utf-8"))
    torch.set_num_threads(1)  # networks so small that more threads only wait for each other
    rows = []
    for row in run():
        rows.append({"experiment": name, **row})
        log.info("%s", _flat(rows[-1]))
    write_json(file, rows)
    return rows


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """A line of the table: error per site and their mean, and for each probe accuracy, interval, chance and control."""
    line = {name: value for name, value in row.items() if not isinstance(value, dict)}
    errors = row.get("error", {})
    if errors:
        line["error"] = float(np.mean(list(errors.values())))
    if len(errors) <= len(TRIO):
        line |= {f"error {site}": value for site, value in errors.items()}
    relatives = {"site of relatives": row["relatives"]["site"]} if "relatives" in row else {}
    for name, told in {**row, **relatives}.items():
        if name in ("site", "sex", "site of relatives"):
            line[name] = told["accuracy"]
            line[f"{name} interval"] = f"{told['low']:.2f} to {told['high']:.2f}"
            line[f"{name} chance"], line[f"{name} shuffled"] = told["chance"], told["shuffled"]
    return line


def _for_tables(scale: Scale) -> Scale:
    """Rows are small and steps cheap: more of them."""
    schedule = replace(scale.schedule, batch=64, pretrain=600, steps=1500, every=50, patience=8)
    return replace(scale, schedule=schedule, alpha=3.0)
