"""Participants as samples: which column is the task, which ones are to be forgotten, and on whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import torch
from torch import Tensor

from imunity_bids.errors import InputMissing, Usage
from imunity_bids.unlearning import subsets
from imunity_bids.unlearning.losses import AGE_SIGMA, soft_labels
from imunity_bids.unlearning.samples import UNKNOWN, Samples
from imunity_bids.unlearning.scans import Grid, Scan, load_scan
from imunity_bids.unlearning.tasks import Task, column_task

CATEGORIES = 16  # numbers with more distinct values are continuous nuisances
BRAIN_SHARE = 0.02  # of a slice that is used
BIN = 5.0  # of a continuous nuisance, in its unit


@dataclass(frozen=True)
class Cases:
    """Samples, whose they are, and what the networks have to be like."""

    samples: Samples
    persons: np.ndarray  # (n,)
    task: Task
    classes: dict[str, int]  # of each nuisance


def column_cases(
    scans: Sequence[Scan], task_name: str, kind: str, nuisances: Sequence[str], on: str, allow: bool, spacing_mm: float
) -> Cases:
    """Regression or classification of a column of participants.tsv from whole volumes.

    Parameters
    ----------
    nuisances
        Columns to forget, the site first; without such a column the dataset's folder is the site.
    on
        "all", "overlap" (of the outcome, over sites; all nuisances), "balanced" (the outcome does not follow the
        nuisance), or a query on participants.tsv.
    allow
        Unlearn a site that is fully confounded with the outcome, too.

    Raises
    ------
    DataUnusable
        It is, and that is not allowed.
    Usage
        A column has fewer than two values, or the subset is empty.
    """
    values = [scan.trait(task_name) for scan in scans]
    task, target, labelled = column_task(task_name, kind, values)
    table = _table(scans)
    outcome = _outcome(values, kind)
    labels, classes = {}, {}
    for name in nuisances:
        given = _given(scans, name, is_site=name == nuisances[0])
        known = np.array([value is not None for value in given])
        both = known & labelled.numpy()
        if not allow and not _is_continuous(given):
            subsets.refuse_confounded(outcome[both], np.array(given, dtype=object)[both].astype(str), name)
        chosen = known & _chosen(on, outcome, given, table, both)
        labels[name], classes[name] = _labels(name, given, torch.from_numpy(chosen))
    volumes = torch.stack([load_scan(scan.path, spacing_mm)[0].half() for scan in scans])[:, None]
    samples = Samples(volumes, target, labelled, _numbers(_given(scans, nuisances[0], True)), labels)
    return Cases(samples, np.array([f"{scan.folder}/{scan.participant}" for scan in scans]), task, classes)


def slice_cases(
    scans: Sequence[Scan], labels: Path | None, suffix: str, site: str, spacing_mm: float, on: str = "all"
) -> Cases:
    """Segmentation of axial slices; scans without labels only help to forget the site (section 2.5.2).

    Parameters
    ----------
    labels
        Dataset with `<same entities>_<suffix>.nii.gz`; without it, beside the images.

    Raises
    ------
    InputMissing
        No scan has labels.
    Usage
        A subset that needs an outcome in numbers or classes.
    """
    found = [_label_file(scan, labels, suffix) for scan in scans]
    if not any(found):
        raise InputMissing(f"no scan has *_{suffix}.nii.gz{f' in {labels}' if labels else ' beside it'}")
    sites = _numbers(_given(scans, site, True))
    chosen = torch.ones(len(scans), dtype=torch.bool)
    if on in ("overlap", "balanced"):
        raise Usage(f"--unlearn-on {on} is for a regression or classification; a segmentation takes all or a query")
    if on != "all":
        chosen = torch.from_numpy(subsets.queried(_table(scans), on))
    inputs, targets, owners = [], [], []
    for number, (scan, file) in enumerate(zip(scans, found, strict=True)):
        volume, grid = load_scan(scan.path, spacing_mm)
        wanted = _classes_of(file, grid) if file else torch.zeros(grid.small, dtype=torch.long)
        for place in used_slices(volume):
            inputs.append(volume[:, :, place].half())
            targets.append(wanted[:, :, place])
            owners.append(number)
    owner = torch.tensor(owners)
    target = torch.stack(targets)
    names = ("background", *(f"label {n}" for n in range(1, int(target.max()) + 1)))
    task = Task(suffix, "segmentation", names)
    label = torch.where(chosen, sites, UNKNOWN)[owner]
    labelled = torch.tensor([file is not None for file in found])[owner]
    samples = Samples(torch.stack(inputs)[:, None], target, labelled, sites[owner], {site: label})
    persons = np.array([f"{scan.folder}/{scan.participant}" for scan in scans])[owner.numpy()]
    return Cases(samples, persons, task, {site: int(sites.max()) + 1})


def used_slices(volume: Tensor) -> list[int]:
    """Axial slices of a standardised volume (X, Y, Z) that show some brain."""
    brain = (volume > volume.min() + 0.1).float().mean(dim=(0, 1))
    return torch.nonzero(brain >= BRAIN_SHARE)[:, 0].tolist()


def split_by_person(cases: Cases, share: float, seed: int) -> tuple[Samples, Samples]:
    """Samples to learn from and, a share of the persons of each site, to judge by; at least one person each."""
    rng, judged = np.random.default_rng(seed), np.zeros(len(cases.persons), bool)
    sites = cases.samples.site.numpy()
    for site in np.unique(sites):
        people = np.unique(cases.persons[sites == site])
        if len(people) < 2:
            raise Usage(f"site number {site} has one person only: two are needed, one of them to judge by")
        drawn = rng.permutation(people)[: max(1, round(share * len(people)))]
        judged |= np.isin(cases.persons, drawn)
    return tuple(cases.samples.take(torch.from_numpy(np.flatnonzero(part))) for part in (~judged, judged))


def _given(scans: Sequence[Scan], column: str, is_site: bool) -> list[str | None]:
    """Values of a column; for the site, the folder where the column is not there."""
    if is_site and not any(column in scan.traits for scan in scans):
        return [scan.folder for scan in scans]
    return [scan.trait(column) for scan in scans]


def _chosen(on: str, outcome: np.ndarray, given: list[str | None], table: pd.DataFrame, both: np.ndarray) -> np.ndarray:
    chosen = np.zeros(len(outcome), bool)
    if on == "all":
        chosen[:] = True
    elif on == "overlap":
        if outcome.dtype.kind not in "fi":
            raise Usage("--unlearn-on overlap is for a regression; use balanced for classes")
        chosen[both] = subsets.overlap(outcome[both], np.array(given, dtype=object)[both].astype(str))
    elif on == "balanced":
        labels = np.array(given, dtype=object)[both].astype(str)
        chosen[both] = subsets.balanced(labels, subsets.bins_of(outcome[both]))
    else:
        chosen = subsets.queried(table, on)
    return chosen


def _labels(name: str, given: list[str | None], chosen: Tensor) -> tuple[Tensor, int]:
    """Class numbers, or distributions over bins where the nuisance is continuous; and how many classes."""
    if _is_continuous(given):
        values = torch.tensor([float(value) if value is not None else torch.nan for value in given])
        known = values[~values.isnan()]
        bins = torch.arange(float(known.min()), float(known.max()) + BIN, BIN)
        soft = soft_labels(values, bins, sigma=AGE_SIGMA)
        soft[~chosen] = torch.nan
        return soft, len(bins)
    numbers = _numbers(given)
    if int(numbers.max()) < 1:
        raise Usage(f"--unlearn {name}: all have the same value of it; there is nothing to forget")
    return torch.where(chosen, numbers, UNKNOWN), int(numbers.max()) + 1


def _numbers(given: Sequence[str | None]) -> Tensor:
    names = sorted({value for value in given if value is not None})
    return torch.tensor([names.index(value) if value is not None else UNKNOWN for value in given])


def _is_continuous(given: Sequence[str | None]) -> bool:
    values = {value for value in given if value is not None}
    return len(values) > CATEGORIES and all(value.replace(".", "", 1).isdigit() for value in values)


def _outcome(values: Sequence[str | None], kind: str) -> np.ndarray:
    if kind == "regression":
        return np.array([float(value) if value is not None else np.nan for value in values])
    return np.array([value or "" for value in values])


def _table(scans: Sequence[Scan]) -> pd.DataFrame:
    """participants.tsv of the scans, numbers as numbers; the folder is there as `dataset`."""
    table = pd.DataFrame([{"dataset": scan.folder, **scan.traits} for scan in scans])
    for name in table:
        numbers = pd.to_numeric(table[name], errors="coerce")
        if numbers.notna().any():
            table[name] = numbers
    return table


def _label_file(scan: Scan, labels: Path | None, suffix: str) -> Path | None:
    folder = scan.path.parent
    if labels is not None:
        folder = labels.joinpath(*scan.path.parts[_root(scan.path) :]).parent
    stem = scan.path.name.partition("_desc-")[0]
    return next(
        iter(sorted(folder.glob(f"{stem}_*{suffix}.nii.gz")) or sorted(folder.glob(f"{stem}_{suffix}.nii.gz"))), None
    )


def _root(path: Path) -> int:
    """How many parts of a path come before `sub-…`."""
    return next(place for place, part in enumerate(path.parts) if part.startswith("sub-"))


def _classes_of(file: Path, grid: Grid) -> Tensor:
    return grid.reduce(np.asarray(nib.load(file).dataobj), labels=True).round().long()
