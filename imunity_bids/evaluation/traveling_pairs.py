"""Real traveling subjects (Cackowski 2023, experiment 1): every scan against that of the same person elsewhere."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy import stats

from imunity_bids.bids.visits import scanner_names
from imunity_bids.errors import DataUnusable, InputMissing, Usage
from imunity_bids.evaluation.travelers import OURS, baseline_images, scores_of
from imunity_bids.harmonize.inference import Compute, harmonize
from imunity_bids.harmonize.references import reference_of
from imunity_bids.image import ants_bridge
from imunity_bids.models.bundle import Bundle, load_bundle

RAW = "raw"
ALL = "all scanners"
RESCAN = "same scanner, another visit"  # what nothing but time and head position changes
SCORES = ("ssim", "psnr", "mae")


@dataclass(frozen=True)
class Trip:
    """One scan: whose, where, and its white-striped brain in template space."""

    person: str
    scanner: str
    path: Path


def trips_of(bids_dir: Path, derivatives: Path, scanner_from: str) -> list[Trip]:
    """All preprocessed scans of a dataset, and their scanners; the first of each session.

    Raises
    ------
    InputMissing
        The derivatives hold no preprocessed image.
    """
    by_visit: dict[str, tuple[str, Path]] = {}
    for path in sorted(derivatives.glob("**/*_space-*_res-1_desc-preproc_T1w.nii.gz")):
        stem = path.name.partition("_space-")[0]
        visit = "_".join(part for part in stem.split("_") if part.startswith(("sub-", "ses-", "acq-")))
        by_visit.setdefault(visit, (stem, path))
    if not by_visit:
        raise InputMissing(f"{derivatives} holds no *_space-*_res-1_desc-preproc_T1w.nii.gz")
    names = scanner_names(bids_dir, [stem for stem, _ in by_visit.values()], scanner_from)
    return [Trip(stem.split("_")[0], names[stem], path) for stem, path in by_visit.values()]


def evaluate_dataset(
    trips: Sequence[Trip],
    model: Path,
    output: Path,
    target: str = "",
    same_person: bool = False,
    references: int = 0,
    jobs: int = 1,
) -> pd.DataFrame:
    """Every scan to the target scanner, against the same person there; writes `pairs.tsv`, `table2.tsv` and `.json`.

    Parameters
    ----------
    target
        Scanner that all are harmonized to; empty: the one on which most persons were.
    same_person
        The reference is the person's own scan on the target scanner, as in the paper. By default it is of others there:
        one's own gives the anatomy away.
    references
        So many of the others; 0: all.

    Raises
    ------
    Usage, DataUnusable
        No such scanner; or nobody was on the target scanner and on another, or has others there to be the reference.
    """
    target = target or _most_visited(trips)
    if target not in (names := sorted({trip.scanner for trip in trips})):
        raise Usage(f"--target-scanner {target}: no such scanner; there are: {', '.join(names)}")
    here: dict[str, list[Trip]] = {}
    for trip in trips:
        if trip.scanner == target:
            here.setdefault(trip.person, []).append(trip)
    tasks = []
    for trip in trips:
        truth = here.get(trip.person, [trip])[0]
        others = [there[0].path for person, there in here.items() if person != trip.person][: references or None]
        shown = [truth.path] if same_person else others
        if truth is not trip and shown:
            tasks.append((trip, truth, shown))
    if not tasks:
        who = "with another person there as the reference; try --same-person or " if not same_person else ""
        raise DataUnusable(f"nobody was scanned on {target} and elsewhere, {who}name another --target-scanner")
    parts = Parallel(n_jobs=jobs)(delayed(_score_trip)(*task, model) for task in tasks)
    table = pd.DataFrame([row for rows in parts for row in rows])
    output.mkdir(parents=True, exist_ok=True)
    table.to_csv(output / "pairs.tsv", sep="\t", index=False, float_format="%.6f")
    summary = table_2(table, target)
    summary.to_csv(output / "table2.tsv", sep="\t", index=False, float_format="%.6g", na_rep="n/a")
    about = {"target": target, "reference": "same person" if same_person else "others", "model": str(model)}
    rows = json.loads(summary.to_json(orient="records"))
    (output / "table2.json").write_text(json.dumps({**about, "rows": rows}, indent=2, allow_nan=False) + "\n")
    return summary


def table_2(table: pd.DataFrame, target: str) -> pd.DataFrame:
    """The paper's table 2, a row per way and method: mean ± standard deviation over persons, and paired t-tests.

    Scans of one person on one scanner are averaged first, so that `ssim_p` (against raw) and `ssim_p_ours` (against our
    images; both two-sided, NaN for one person) count persons.

    Parameters
    ----------
    table
        Columns `person`, `source`, `method` and scores.
    """
    ways = {f"{source} → {target}": part for source, part in table.groupby("source") if source != target}
    if len(ways) > 1:
        ways[f"{ALL} → {target}"] = table[table.source != target]
    if (table.source == target).any():
        ways[RESCAN] = table[table.source == target]
    rows = []
    for way, part in ways.items():
        persons = part.groupby(["person", "method"], sort=False)[list(SCORES)].mean().unstack("method")
        for method in part.method.unique():
            row = {"way": way, "method": method, "persons": len(persons)}
            for score in SCORES:
                row |= {score: persons[score, method].mean(), f"{score}_sd": persons[score, method].std()}
            row["ssim_p"] = _paired(persons["ssim", method], persons["ssim", RAW])
            row["ssim_p_ours"] = _paired(persons["ssim", method], persons["ssim", OURS])
            rows.append(row)
    return pd.DataFrame(rows)


def evaluate_pairs(pairs: Path, model: Path, output: Path) -> pd.DataFrame:
    """Scores on real travelers: a TSV of white-striped brains on one grid, columns source, target, reference.

    `target` is the same person as `source` on the other scanner, `reference` another person there.
    """
    bundle, rows = load_bundle(model), []
    for number, row in enumerate(pd.read_csv(pairs, sep="\t").itertuples(), start=1):
        source, target, reference = (_data(path) for path in (row.source, row.target, row.reference))
        rows += [{"pair": number, **scores} for scores in score_pair(source, target, [reference], bundle)]
    output.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(rows)
    table.to_csv(output / "pairs.tsv", sep="\t", index=False, float_format="%.6f")
    return table


def score_pair(
    source: np.ndarray, target: np.ndarray, references: list[np.ndarray], bundle: Bundle
) -> list[dict[str, object]]:
    """A row per method: source harmonized to the references, against the target; white-striped brains on one grid.

    Only what is brain in both is looked at.
    """
    mask = (source > 0) & (target > 0)
    ours = harmonize(source, mask, bundle, reference_of(references, bundle), Compute())
    images = {RAW: source, **baseline_images(source, mask, references), OURS: ours.image}
    return [{"method": name, **scores_of(image, target, source, mask)} for name, image in images.items()]


def _score_trip(trip: Trip, truth: Trip, shown: Sequence[Path], model: Path) -> list[dict[str, object]]:
    import torch

    torch.set_num_threads(1)
    about = {"person": trip.person, "source": trip.scanner, "image": trip.path.name}
    references = [_data(path) for path in shown]
    rows = score_pair(_moved(trip.path, truth.path), _data(truth.path), references, load_bundle(model))
    return [{**about, **row} for row in rows]


def _moved(source: Path, target: Path) -> np.ndarray:
    """The source rigidly registered to the target (6 parameters), on its grid: heads lie differently each time."""
    moving, fixed = nib.load(source), nib.load(target)
    with tempfile.TemporaryDirectory() as folder:
        forward, _ = ants_bridge.register(moving, fixed, "rigid", 1, Path(folder))
        moved = ants_bridge.apply(np.asarray(moving.dataobj, np.float32), moving, fixed, forward, "linear")
        inside = ants_bridge.apply(np.asarray(moving.dataobj) > 0, moving, fixed, forward, "nearestNeighbor")
    return (np.clip(moved, 0, 1) * (inside > 0.5)).astype(np.float32)


def _data(path: Path | str) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj, np.float32)


def _most_visited(trips: Sequence[Trip]) -> str:
    persons = pd.DataFrame(trips).groupby("scanner").person.nunique()
    return str(persons.idxmax())


def _paired(values: pd.Series, others: pd.Series) -> float:
    """p of a t-test, a pair per person."""
    if len(values) < 2 or values.equals(others):
        return float("nan")
    return float(stats.ttest_rel(values, others).pvalue)
