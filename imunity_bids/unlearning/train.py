"""From derivatives to a model folder: what `imunity-train unlearn` does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from imunity_bids import version
from imunity_bids.errors import Usage
from imunity_bids.settings import as_command
from imunity_bids.unlearning.augment import Poses
from imunity_bids.unlearning.cases import Cases, column_cases, slice_cases, split_by_person
from imunity_bids.unlearning.fit import Outcome, Schedule, fit
from imunity_bids.unlearning.model import Architecture, build, save_model
from imunity_bids.unlearning.networks import SiteHead, TapHead
from imunity_bids.unlearning.scans import find_scans
from imunity_bids.unlearning.trainer import Nuisance, Unlearner

VALIDATION_SHARE = 0.2  # of the persons of each site


@dataclass(frozen=True)
class UnlearnTraining:
    """What decides the weights, and where they go."""

    derivatives: tuple[Path, ...]
    output: Path
    task: str
    type: str
    unlearn: str = "site"
    confound: tuple[str, ...] = ()
    unlearn_on: str = "all"  # all, overlap, balanced or a query
    labels: Path | None = None  # dataset with label images, for a segmentation
    description: str | None = None  # desc- of the images
    place: str = "A"  # of a U-Net's site classifier
    allow_confounded: bool = False
    no_augment: bool = False
    spacing: float = 3.0  # mm
    width: int = 8
    features: int = 8  # of volumes
    batch: int = 16
    rate: float = 1e-3
    alpha: float = 10.0
    beta: float = 0.4
    updates: int = 10
    pretrain: int = 1000
    steps: int = 2000
    every: int = 50
    patience: int = 8
    tolerance: float = 0.05
    seed: int = 1
    device: str = "cpu"
    license: str = "not stated"


def train_unlearned(setup: UnlearnTraining) -> Path:
    """Train, or go on where a killed run stopped, and write `model` into the run's folder; returns it."""
    if setup.type == "segmentation" and setup.confound:
        raise Usage("--confound is for regression and classification; a segmentation forgets the site only")
    cases = read_cases(setup)
    training, validation = split_by_person(cases, VALIDATION_SHARE, setup.seed)
    torch.manual_seed(setup.seed)
    depth = 3 if setup.type == "segmentation" else 4
    architecture = Architecture(setup.width, depth, setup.features, setup.spacing)
    encoder, head = build(cases.task, architecture)
    nuisances = [_nuisance(setup, name, classes) for name, classes in cases.classes.items()]
    options = {"rate": setup.rate, "device": setup.device, "updates": setup.updates}
    unlearner = Unlearner(encoder, head, cases.task.loss, nuisances, **options)
    shared = ("batch", "pretrain", "steps", "every", "patience", "tolerance", "seed")
    schedule = Schedule(**{name: getattr(setup, name) for name in shared})
    augment = None if setup.no_augment else Poses(setup.spacing)
    outcome = fit(unlearner, training, validation, cases.task.error, schedule, setup.output, setup.task, augment)
    card = _card(setup, cases, outcome, len(training), len(validation))
    return save_model(setup.output / "model", cases.task, architecture, encoder, head, card)


def read_cases(setup: UnlearnTraining) -> Cases:
    """The samples that the setup names."""
    scans = find_scans(list(setup.derivatives), setup.description)
    if setup.type == "segmentation":
        return slice_cases(scans, setup.labels, setup.task, setup.unlearn, setup.spacing, setup.unlearn_on)
    names = (setup.unlearn, *setup.confound)
    return column_cases(scans, setup.task, setup.type, names, setup.unlearn_on, setup.allow_confounded, setup.spacing)


def _nuisance(setup: UnlearnTraining, name: str, classes: int) -> Nuisance:
    if setup.type == "segmentation":
        bottleneck = setup.width * 2**3
        head = TapHead(setup.place, setup.width, bottleneck, classes)
    else:
        head = SiteHead(setup.features, classes)
    return Nuisance(name, head, setup.alpha, setup.beta)


def _card(setup: UnlearnTraining, cases: Cases, outcome: Outcome, training: int, validation: int) -> dict[str, Any]:
    """What a user has to know about the weights."""
    words = ["imunity-train unlearn", *(folder.name for folder in setup.derivatives), "RUN"]
    return {
        "name": setup.output.name,
        "license": setup.license,
        "unlearned": list(cases.classes),
        "training": {
            "command": as_command(words, setup, ("derivatives", "output")),
            "seed": setup.seed,
            "device": setup.device,
            "versions": {"imunity-bids": version(), "torch": torch.__version__},
            "samples": {"training": training, "validation": validation},
            "persons": len(set(cases.persons)),
            "step": outcome.step,
            "validation_error": round(outcome.error, 4),
            "told_above_chance": {name: round(value, 4) for name, value in outcome.leaks.items()},
        },
    }
