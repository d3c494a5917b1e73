"""Train by one of the paper's methods, and judge: error of the main task per scanner, and what a fresh probe finds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from imunity_bids.evaluation.unlearning_dann import Dann
from imunity_bids.unlearning.augment import Poses
from imunity_bids.unlearning.fit import Schedule, fit
from imunity_bids.unlearning.networks import FEATURES, SiteHead
from imunity_bids.unlearning.probe import probe
from imunity_bids.unlearning.samples import Samples
from imunity_bids.unlearning.tasks import Task
from imunity_bids.unlearning.trainer import Nuisance, Unlearner, apply

NORMAL, PER_SITE, UNLEARNED, DANN = "normal", "equations 1 and 2", "unlearned", "DANN"
VALIDATION_SHARE = 0.2


@dataclass(frozen=True)
class Scale:
    """How large the experiments are."""

    persons: int
    judged: int  # of persons whose label maps were not trained on, and of those whose maps were
    held_out_maps: int
    spacing_mm: float
    width: int
    features: int
    schedule: Schedule
    probe_seeds: int
    rate: float = 1e-3
    alpha: float = 10.0
    beta: float = 0.4
    updates: int = 10
    sites: int = 16
    slices: int = 10  # of each volume, for segmentation


@dataclass(frozen=True)
class Plan:
    """What `imunity-evaluate unlearning` does: (a) to (f) on volumes, (g) on slices, each with so many seeds."""

    volumes: Scale
    slices: Scale  # finer: tissues cannot be told at 8 mm
    seeds: int


VOLUMES = Scale(1000, 120, 6, 8.0, 4, 6, Schedule(96, 200, 300, every=50, patience=6), probe_seeds=1)
SLICES = Scale(
    240, 36, 6, 4.0, 8, 0, Schedule(24, 400, 300, every=50, patience=6), probe_seeds=1,
    rate=4e-3, alpha=0.5, beta=0.3, updates=5, sites=4, slices=4,
)  # fmt: skip
FULL = Plan(VOLUMES, SLICES, seeds=3)
QUICK = Plan(
    replace(VOLUMES, persons=600, schedule=replace(VOLUMES.schedule, pretrain=100, steps=150)),
    replace(SLICES, persons=120, schedule=replace(SLICES.schedule, pretrain=100, steps=100)),
    seeds=1,
)
TABLES = replace(  # steps are cheap here
    VOLUMES,
    features=FEATURES,
    schedule=Schedule(64, pretrain=300, steps=500, every=50, patience=4),
    probe_seeds=2, alpha=3.0, beta=0.3, updates=1,
)  # fmt: skip


@dataclass(frozen=True)
class Trained:
    """Networks that a method has left."""

    encoder: nn.Module
    head: nn.Module
    task: Task


HeadOf = Callable[[int], nn.Module]  # classes of a nuisance to its classifier


def train(
    method: str,
    samples: Samples,
    families: np.ndarray,
    task: Task,
    networks: tuple[nn.Module, nn.Module],
    classes: Mapping[str, int],
    scale: Scale,
    head_of: HeadOf | None = None,
) -> Trained:
    """Networks trained by a method; a share of the families is kept to stop by.

    Parameters
    ----------
    families
        Label map or person of each sample, (n,): what is never on both sides.
    networks
        Encoder, whose features are those of the scale unless `head_of` says otherwise, and main head; they are trained.
    classes
        Of each nuisance of the samples that is to be forgotten.
    """
    encoder, head = networks
    head_of = head_of or (lambda count: SiteHead(scale.features, count))
    names = np.random.default_rng(scale.schedule.seed).permutation(np.unique(families))
    kept = np.isin(families, names[: max(1, round(VALIDATION_SHARE * len(names)))])
    validation, training = (samples.take(torch.from_numpy(np.flatnonzero(part))) for part in (kept, ~kept))
    schedule = scale.schedule
    if method in (NORMAL, PER_SITE):
        unlearner = Unlearner(encoder, head, task.loss, rate=scale.rate, per_site=method == PER_SITE)
        schedule = replace(schedule, pretrain=schedule.pretrain + schedule.steps)
    else:
        nuisances = [Nuisance(name, head_of(count), scale.alpha, scale.beta) for name, count in classes.items()]
        kind = Dann if method == DANN else Unlearner
        unlearner = kind(encoder, head, task.loss, nuisances, rate=scale.rate, updates=scale.updates)
    augment = Poses(scale.spacing_mm) if samples.inputs.ndim > 2 else None  # a table has no pose
    fit(unlearner, training, validation, task.error, schedule, name=method, augment=augment)
    return Trained(encoder, head, task)


def judge(
    trained: Trained,
    test: Samples,
    persons: np.ndarray,
    sites: Sequence[str],
    scale: Scale,
    others: Mapping[str, np.ndarray] | None = None,
) -> dict[str, Any]:
    """A row: `error` per site, and `site` as the probe tells it; other nuisances by name.

    Parameters
    ----------
    test
        Samples of persons who were not trained on.
    persons
        Whose they are, (n,).
    others
        More that a probe shall tell, (n,) labels each.
    """
    vectors, outputs = apply(trained.encoder, trained.head, test.inputs, "cpu")
    row: dict[str, Any] = {"error": {}}
    for number in test.site.unique().tolist():
        here = test.site == number
        row["error"][sites[number]] = trained.task.error(outputs[here], test.target[here])
    asked = {**({"site": test.site.numpy()} if len(row["error"]) > 1 else {}), **(others or {})}
    for name, labels in asked.items():
        row[name] = probe(vectors.numpy(), labels, persons, scale.probe_seeds).to_dict()
    return row
