"""`imunity-evaluate diagnosis` (Cackowski 2023, experiments 2, 3): is the site gone, the diagnosis found better?"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from imunity_bids.bids.outputs import plain, write_atomically, write_json, write_text
from imunity_bids.evaluation.cohort_folds import BY_PERSON, SCHEMES, Judged, judge
from imunity_bids.evaluation.cohort_methods import NONE, SITE, Method, methods_named
from imunity_bids.evaluation.cohort_rows import Rows, read_table, rows_of
from imunity_bids.evaluation.cohort_scores import draws_of, mean_error, ordered_pairs, with_interval
from imunity_bids.evaluation.diagnosis_plots import plot_diagnosis
from imunity_bids.hashes import digest
from imunity_bids.unlearning.probe import CLASSIFIERS, balanced, interval

log = logging.getLogger(__name__)
MANY = 500  # rows, from which one shuffling tells guessing well enough: to about 0.02 of AUC


@dataclass(frozen=True)
class Contestant:
    """Rows, harmonized or not, and a method that is fitted within their folds."""

    name: str
    rows: Rows
    method: Method


@dataclass(frozen=True)
class Protocol:
    """How it is judged."""

    schemes: tuple[str, ...] = SCHEMES
    folds: int = 10
    seeds: int = 5
    jobs: int = 1


def table_rows(
    files: Sequence[Path],
    output: Path,
    targets: Sequence[str] = ("dx", "age"),
    pattern: str = "f_*",
    site_column: str = "site",
    methods: Sequence[str] = (),
    protocol: Protocol = Protocol(),
) -> list[dict[str, Any]]:
    """Rows of `compare` for methods on features, of real tables of many sites and each target."""
    chosen, found = methods_named(list(methods)), []
    for file in files:
        table = read_table(file, site_column)
        for target in targets:
            rows = rows_of(table, target, pattern, file.name)
            contestants = [Contestant(name, rows, method) for name, method in chosen.items()]
            about = {"data": file.stem, "target": target}
            found += [about | row for row in compare(contestants, NONE, output, protocol)]
    return found


def compare(contestants: Sequence[Contestant], first: str, output: Path, protocol: Protocol) -> list[dict[str, Any]]:
    """A row per scheme and contestant; `gain` is over the contestant of the name `first`, where there is one.

    What is done is kept in `output/parts`, so that a killed evaluation goes on.
    """
    found: list[dict[str, Any]] = []
    for scheme in protocol.schemes:
        entered = [one for one in contestants if _can_enter(one, scheme)]
        draws: dict[str, np.ndarray] = {}
        rows = []
        for one in entered:
            results, controls = _all_seeds(one, scheme, output, protocol)
            row, draws[one.name] = _summary(one.rows, results, controls)
            rows.append({"scheme": scheme, "method": one.name, **row})
            log.info("%s", _flat(rows[-1]))
        for row in rows if first in draws else []:
            row["gain"] = _parts(with_interval(draws[row["method"]] - draws[first]))
        found += rows
    return found


def _can_enter(one: Contestant, scheme: str) -> bool:
    """A new site needs others, and says nothing by its name."""
    return scheme == BY_PERSON or (one.name != SITE and len(np.unique(one.rows.site)) > 1)


def write_results(found: list[dict[str, Any]], output: Path) -> pd.DataFrame:
    """`diagnosis.tsv`, `.json` and `.png`; returns the table."""
    table = pd.DataFrame([_flat(row) for row in found])
    write_json(output / "diagnosis.json", plain(found))
    write_text(output / "diagnosis.tsv", table.to_csv(sep="\t", index=False, float_format="%.4g", na_rep="n/a"))
    plot_diagnosis(table, output / "diagnosis.png")
    return table


def _all_seeds(one: Contestant, scheme: str, output: Path, protocol: Protocol) -> tuple[list[Judged], list[Judged]]:
    """Of all seeds; and with shuffled targets and sites: of all, or of one where there are many rows."""
    controls = protocol.seeds if len(one.rows) < MANY else 1
    todo = [(seed, False) for seed in range(protocol.seeds)] + [(seed, True) for seed in range(controls)]
    parts = Parallel(n_jobs=protocol.jobs)(
        delayed(_kept)(one, scheme, protocol.folds, seed, shuffled, output / "parts") for seed, shuffled in todo
    )
    return parts[: protocol.seeds], parts[protocol.seeds :]


def _kept(one: Contestant, scheme: str, folds: int, seed: int, shuffled: bool, folder: Path) -> Judged:
    """What an earlier run left, or made now."""
    numbers = (one.rows.features, one.rows.target, one.rows.covariates)
    content = hashlib.sha256(b"".join(part.tobytes() for part in numbers)).hexdigest()
    key = digest(
        [
            content,
            list(one.rows.site),
            list(one.rows.person),
            one.name,
            one.method.__qualname__,
            scheme,
            folds,
            seed,
            shuffled,
        ]
    )
    file = folder / f"{key}.npz"
    if not file.is_file():
        found = asdict(judge(one.rows, one.method, scheme, folds, seed, shuffled))
        write_atomically(file, lambda path: np.savez_compressed(path, **found))
    with np.load(file) as stored:
        arrays = {name: stored[name] for name in ("answers", "fold", "told")}
        return Judged(**arrays, seconds=float(stored["seconds"]))


def _summary(rows: Rows, results: Sequence[Judged], controls: Sequence[Judged]) -> tuple[dict[str, Any], np.ndarray]:
    """A row, and its score by draw of persons; scores are means over seeds."""
    weights = draws_of(rows.person)
    draws = np.mean([_score(rows, one, weights) for one in results], axis=0)
    row: dict[str, Any] = {
        "score": "auc" if rows.classes else "mae",
        "value": _parts(with_interval(draws)),
        "seeds": [float(_score(rows, one, weights[:1])[0]) for one in results],
        "shuffled": float(np.mean([_score(rows, one, weights[:1])[0] for one in controls])),
        "rows": len(rows),
        "persons": len(np.unique(rows.person)),
        "sites": len(np.unique(rows.site)),
        "seconds": sum(one.seconds for one in [*results, *controls]),
    }
    if rows.classes:
        within = [ordered_pairs(one.answers, rows.target > 0, _both(one.fold, rows.site), weights) for one in results]
        row["within_sites"] = _parts(with_interval(np.mean(within, axis=0)))
    if len(results[0].told):
        row["site"] = _site_told(rows, results, controls)
    return row, draws


def _score(rows: Rows, one: Judged, weights: np.ndarray) -> np.ndarray:
    if rows.classes:
        return ordered_pairs(one.answers, rows.target > 0, one.fold, weights)
    return mean_error(one.answers, rows.target, weights)


def _site_told(rows: Rows, results: Sequence[Judged], controls: Sequence[Judged]) -> dict[str, Any]:
    """Balanced accuracy of the stronger classifier; the control's is chosen alike."""
    labels, who = (np.unique(values, return_inverse=True)[1] for values in (rows.site, rows.person))
    told = np.mean([one.told for one in results], axis=0)
    best = int(np.argmax([balanced(part, labels) for part in told]))
    low, high = interval(told[best], labels, who)
    return {
        "accuracy": balanced(told[best], labels),
        "low": low,
        "high": high,
        "chance": 1 / (labels.max() + 1),
        "shuffled": max(balanced(part, labels) for part in np.mean([one.told for one in controls], axis=0)),
        "classifier": list(CLASSIFIERS)[best],
        "seeds": [balanced(one.told[best].astype(float), labels) for one in results],
    }


def _both(fold: np.ndarray, site: np.ndarray) -> np.ndarray:
    return np.char.add(np.char.add(site, "/"), fold.astype(str))


def _parts(value: tuple[float, float, float]) -> dict[str, float]:
    return dict(zip(("mean", "low", "high"), value, strict=True))


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """A line of the table."""
    line = {name: row[name] for name in ("data", "target", "scheme", "method", "score") if name in row}
    for name in ("value", "gain", "within_sites"):
        if name in row:
            mean, low, high = row[name].values()
            line[name], line[f"{name} interval"] = mean, f"{low:.3f} to {high:.3f}"
    line["shuffled"] = row["shuffled"]
    if "site" in row:
        told = row["site"]
        line["site"], line["site interval"] = told["accuracy"], f"{told['low']:.3f} to {told['high']:.3f}"
        line["site chance"], line["site shuffled"] = told["chance"], told["shuffled"]
    return line | {name: row[name] for name in ("rows", "persons", "sites", "seconds") if name in row}
