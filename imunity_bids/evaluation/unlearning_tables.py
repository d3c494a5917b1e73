"""The same library on real tables of many sites, and on real scans: cross-validated by person."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from imunity_bids.errors import DataUnusable
from imunity_bids.evaluation.unlearning_methods import DANN, NORMAL, UNLEARNED, Scale, judge, train
from imunity_bids.unlearning.leak import leak
from imunity_bids.unlearning.model import Architecture, build
from imunity_bids.unlearning.networks import FEATURES, TableEncoder
from imunity_bids.unlearning.probe import probe
from imunity_bids.unlearning.samples import Samples
from imunity_bids.unlearning.tasks import Task, column_task
from imunity_bids.unlearning.trainer import apply

FOLDS = 3
LEAST = 10  # persons of a site that is used
Networks = Callable[[], tuple[nn.Module, nn.Module]]


def table_rows(file: Path, scale: Scale) -> Iterator[dict[str, Any]]:
    """Age from the features of a table with columns subject, site, age, sex and f_*; the site is forgotten."""
    table = pd.read_csv(file).dropna(subset=["age", "site"])
    table = table[table.groupby("site").subject.transform("nunique") >= LEAST].reset_index(drop=True)
    features = table.filter(regex="^f_").astype(float)
    features = features.fillna(features.median()).to_numpy()
    if len(features) == 0 or table.site.nunique() < 2:
        raise DataUnusable(f"{file.name}: fewer than two sites with {LEAST} persons")
    features = (features - features.mean(axis=0)) / np.maximum(features.std(axis=0), 1e-9)
    task, target, known = column_task("age", "regression", [str(age) for age in table.age])
    names, site = np.unique(table.site.astype(str), return_inverse=True)
    site = torch.from_numpy(site)
    samples = Samples(torch.from_numpy(features).float(), target, known, site, {"site": site})
    persons = table.subject.astype(str).to_numpy()

    def networks() -> tuple[nn.Module, nn.Module]:
        return TableEncoder(features.shape[1]), nn.Linear(FEATURES, 1)

    known_anyway = np.stack([table.age, (table.sex == "M").astype(float)], axis=1)
    floor = probe(known_anyway, site.numpy(), persons, scale.probe_seeds).to_dict()
    yield {"condition": file.stem, "method": "age and sex alone", "error": {}, "site": floor}
    yield from cross_validated(file.stem, samples, persons, task, list(names), networks, scale)


def scan_rows(samples: Samples, persons: np.ndarray, task: Task, scale: Scale) -> Iterator[dict[str, Any]]:
    """Age or sex from real volumes, (n, 1, X, Y, Z)."""
    architecture = Architecture(scale.width, 4, scale.features, scale.spacing_mm)
    names = [f"site {number}" for number in range(int(samples.site.max()) + 1)]
    label = f"{task.name} on {len(set(persons))} real persons"
    yield from cross_validated(label, samples, persons, task, names, lambda: build(task, architecture), scale)


def cross_validated(
    condition: str,
    samples: Samples,
    persons: np.ndarray,
    task: Task,
    sites: list[str],
    networks: Networks,
    scale: Scale,
) -> Iterator[dict[str, Any]]:
    """A row for each method: errors and probes are means over folds of persons, since every fold has its own features.

    `permuted` is how well a permuted outcome, which nothing can be associated with, is told from the features of
    persons left out (squared correlation): it has to stay at 0.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    split = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=scale.schedule.seed)
    folds = list(split.split(persons, samples.site.numpy(), persons))
    for method in (NORMAL, UNLEARNED, DANN):
        rows = []
        for known, judged in folds:
            training, test = (samples.take(torch.from_numpy(part)) for part in (known, judged))
            torch.manual_seed(scale.schedule.seed)
            trained = train(method, training, persons[known], task, networks(), {"site": len(sites)}, scale)
            row = judge(trained, test, persons[judged], sites, scale)
            row["permuted"] = _permuted(trained.encoder, trained.head, training, test)
            rows.append(row)
        yield {"condition": condition, "method": method, **mean_of(rows)}


def _permuted(encoder: nn.Module, head: nn.Module, training: Samples, test: Samples) -> float:
    g = torch.Generator().manual_seed(0)
    parts = []
    for part in (training, test):
        shuffled = part.target.float()[torch.randperm(len(part), generator=g)]
        low, high = shuffled.min(), shuffled.max()
        share = ((shuffled - low) / (high - low)).clamp(0, 1)
        parts += [apply(encoder, head, part.inputs, "cpu")[0], torch.stack([1 - share, share], dim=1)]
    return leak(*parts)


def mean_of(rows: list[Any]) -> Any:
    """Numbers averaged, wherever they stand in nested dictionaries; of everything else the first."""
    if isinstance(rows[0], dict):
        return {key: mean_of([row[key] for row in rows if key in row]) for key in rows[0]}
    return float(np.mean(rows)) if isinstance(rows[0], (int, float)) else rows[0]
