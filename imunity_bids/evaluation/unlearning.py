"""`imunity-evaluate unlearning`: the paper's experiments, each with several seeds, each kept when it is done."""

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
from imunity_bids.evaluation.unlearning_experiments import PAIR, TRIO, Setting
from imunity_bids.evaluation.unlearning_methods import FULL, QUICK, Plan, Scale
from imunity_bids.evaluation.unlearning_orderings import orderings
from imunity_bids.evaluation.unlearning_plots import plot_features
from imunity_bids.evaluation.unlearning_tables import mean_of, scan_rows, table_rows
from imunity_bids.simulation.cohort import split_by_map
from imunity_bids.unlearning.networks import FEATURES

log = logging.getLogger(__name__)
Row = dict[str, Any]
RELATIVES = 5  # one person in so many of the label maps that are trained on is kept to be judged by
Experiment = Callable[[Setting], Iterator[Row]]
EXPERIMENTS: dict[str, Experiment] = {  # with every seed: those that the paper's orderings are about
    "a": experiments.age_on_scanners,
    "c": experiments.age_overlap,
    "e": experiments.sex_as_confound,
    "g": experiments.segmentation,
    "g-0": partial(experiments.segmentation, places=("", "A"), labelled=0),
}
MORE: dict[str, Experiment] = {  # with one seed
    "b": experiments.age_trained_on_one,
    "d": experiments.many_sites,
    "f": experiments.age_as_confound,
    "a-2": partial(experiments.age_on_scanners, sites=PAIR),
    "c-10": partial(experiments.age_overlap, years=10),
    "c-15": partial(experiments.age_overlap, years=15),
    "e-site": partial(experiments.sex_as_confound, follows="site"),
    "e-independent": partial(experiments.sex_as_confound, follows=None),
    "g-16": partial(experiments.segmentation, places=("", "A"), labelled=16),
}
LEFT_OUT = ("a-2", "c-10", "c-15", "e-site", "e-independent", "g-16")  # by the quick ones: conditions, not experiments


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
    """Run what there is data for; writes `<experiment>_<seed>.json` and pictures; of all seeds `unlearning.json`, their
    means, `unlearning.tsv`, and which of the paper's orderings hold, `orderings.tsv`.

    An experiment whose JSON is there is not run again, so that a killed evaluation goes on.
    """
    plan = QUICK if quick else FULL
    todo: list[tuple[str, int, Callable[[], Iterator[Row]]]] = []
    for number in range(seed, seed + plan.seeds):
        scale = _seeded(plan.volumes, number)
        todo += [(f"table_{file.stem}", number, partial(table_rows, file, _for_tables(scale))) for file in tables]
        for task in tasks if derivatives else ():
            todo.append((f"scans_{task}", number, partial(_real, list(derivatives), task, scale)))
    if maps is not None:
        for scale in (plan.volumes, plan.slices):  # before the processes that want them
            load_or_make(output, maps, scale.persons, scale.spacing_mm, seed, jobs, vary=True)
        names = [(name, seed + turn) for turn in range(plan.seeds) for name in EXPERIMENTS]
        names += [(name, seed) for name in MORE if not (quick and name in LEFT_OUT)]
        todo += [(name, one, partial(_simulated, output, maps, name, plan, one, seed)) for name, one in names]
    parts = Parallel(n_jobs=jobs, batch_size=1)(delayed(_kept)(output, *work) for work in todo)
    rows = sorted((row for part in parts for row in part), key=lambda row: row["experiment"])
    write_json(output / "unlearning.json", rows)
    table = pd.DataFrame(summary(rows))
    for name, content in (("unlearning", table), ("orderings", pd.DataFrame(orderings(rows)))):
        text = content.to_csv(sep="\t", index=False, float_format="%.4g", na_rep="n/a")
        write_text(output / f"{name}.tsv", text)
    return table


def summary(rows: Sequence[Row]) -> list[Row]:
    """A line for each experiment, condition and method: means over seeds, and from where to where seeds reach."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["experiment"], row["condition"], row["method"]), []).append(row)
    return [_line(group) for group in groups.values()]


def _simulated(output: Path, maps: Path, name: str, plan: Plan, seed: int, cohort: int) -> Iterator[Row]:
    """An experiment on persons of whom the seed decides which label maps are judged, who is where, and the weights."""
    scale = _seeded(plan.slices if name.startswith("g") else plan.volumes, seed)
    members = load_or_make(output, maps, scale.persons, scale.spacing_mm, cohort, 1, vary=True)
    training, judges = split_by_map(members, scale.held_out_maps, np.random.default_rng([seed, 3]))
    known = [member for number, member in enumerate(training) if number % RELATIVES]
    relatives, judges = training[::RELATIVES][: scale.judged], judges[: scale.judged]
    clinic = Clinic(scale.sites, scale.spacing_mm)
    keep: Callable[[str, np.ndarray, np.ndarray], None] = partial(plot_features, output / f"seed-{seed}")
    run = (EXPERIMENTS | MORE)[name]
    yield from run(Setting(known, relatives, judges, clinic, scale, keep))


def _real(folders: list[Path], task: str, scale: Scale) -> Iterator[Row]:
    from imunity_bids.unlearning.cases import column_cases
    from imunity_bids.unlearning.scans import find_scans

    kind = "regression" if task == "age" else "classification"
    cases = column_cases(find_scans(folders), task, kind, ("site",), "all", True, scale.spacing_mm)
    known = cases.samples.labelled.nonzero()[:, 0]
    yield from scan_rows(cases.samples.take(known), cases.persons[known.numpy()], cases.task, scale)


def _kept(output: Path, name: str, seed: int, run: Callable[[], Iterator[Row]]) -> list[Row]:
    file = output / f"{name}_{seed}.json"
    if file.is_file():
        return json.loads(file.read_text(encoding="utf-8"))
    torch.set_num_threads(1)  # networks so small that more threads only wait for each other
    rows = []
    for row in run():
        rows.append({"experiment": name, "seed": seed, **row})
        log.info("%s", _line(rows[-1:]))
    write_json(file, rows)
    return rows


def _line(rows: Sequence[Row]) -> Row:
    """Of rows of several seeds: error per site and their mean, and for each probe accuracy, interval, chance, control.

    An `interval` is of 95 % over persons, and the mean of the seeds' intervals; `seeds` is the lowest to the highest.
    """
    mean = mean_of([{name: value for name, value in row.items() if name != "seed"} for row in rows])
    line = {name: value for name, value in mean.items() if not isinstance(value, dict)}
    if mean["error"]:
        line["error"] = float(np.mean(list(mean["error"].values())))
        line["error seeds"] = _reach([float(np.mean(list(row["error"].values()))) for row in rows], 4)
    if len(mean["error"]) <= len(TRIO):
        line |= {f"error {site}": value for site, value in mean["error"].items()}
    for name, look in PROBES.items():
        if told := look(mean):
            line[name] = told["accuracy"]
            line[f"{name} seeds"] = _reach([look(row)["accuracy"] for row in rows], 2)
            line[f"{name} interval"] = f"{told['low']:.2f} to {told['high']:.2f}"
            line[f"{name} chance"], line[f"{name} shuffled"] = told["chance"], told["shuffled"]
    return line


PROBES: dict[str, Callable[[Row], Row | None]] = {
    "site": lambda row: row.get("site"),
    "sex": lambda row: row.get("sex"),
    "site of relatives": lambda row: row.get("relatives", {}).get("site"),
}


def _reach(values: Sequence[float], digits: int) -> str:
    """From the lowest to the highest."""
    low, high = (float(f"{value:.{digits}g}") for value in (min(values), max(values)))
    return f"{low:g} to {high:g}"


def _seeded(scale: Scale, seed: int) -> Scale:
    return replace(scale, schedule=replace(scale.schedule, seed=seed))


def _for_tables(scale: Scale) -> Scale:
    """Rows are small and steps cheap: more of them."""
    schedule = replace(scale.schedule, batch=64, pretrain=600, steps=1500, every=50, patience=8, tolerance=0.02)
    return replace(scale, schedule=schedule, alpha=3.0, beta=0.3, updates=1, features=FEATURES)
