"""The whole training: main task and classifiers until both converge, then unlearning until nothing is left to gain."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from imunity_bids.errors import DataUnusable
from imunity_bids.unlearning.averages import moving_average
from imunity_bids.unlearning.journal import Journal
from imunity_bids.unlearning.leak import leak
from imunity_bids.unlearning.sampler import EvenBatches, PlainBatches
from imunity_bids.unlearning.samples import Samples
from imunity_bids.unlearning.trainer import Unlearner, apply

ErrorOf = Callable[[Tensor, Tensor], float]  # outputs and targets to one number, lower is better
Augment = Callable[[Samples], Samples]  # a batch to the same batch, seen a little differently
PROGRESS = 0.01  # relative, of what counts as one
MOST_FEATURES = 512  # training samples that the check of the chance level learns from
MEMORY = 0.98  # per step, of the averaged weights: two networks in a contest circle around where they would meet
LOOKS = 3  # evaluations whose mean tells the chance level: a few dozen validation persons alone tell it badly
LEAST_ERROR = 1e-6  # that a relative one can refer to
SETTLING = 3  # evaluations after pretraining before patience counts: confusion first costs, then pays


@dataclass(frozen=True)
class Schedule:
    """How long, and with which batches."""

    batch: int = 32
    pretrain: int = 2000  # steps at most
    steps: int = 2000  # of unlearning, at most
    every: int = 100  # steps between evaluations, which are also the checkpoints
    patience: int = 5  # evaluations without progress
    tolerance: float = 0.05  # a nuisance told better than chance by no more counts as forgotten
    seed: int = 1


@dataclass(frozen=True)
class Outcome:
    """What the kept weights do on the validation samples."""

    step: int
    error: float
    leaks: dict[str, float]  # by how much each nuisance is told better than by chance (`leak`)


class _Progress:
    """The stage of a run, what it has reached and for how many evaluations it has gained nothing."""

    def __init__(self, schedule: Schedule, stage: str):
        self.schedule = schedule
        self.step, self.stage, self.stage_began = 0, stage, 0
        self.lowest: dict[str, float] = {}
        self.usual = 1.0  # error that others are relative to; in unlearning, that of pretraining
        self.stale = 0
        self.kept: dict[str, Any] | None = None
        self.looks: list[dict[str, float]] = []  # at the chance level, the last ones

    def converged(self, numbers: Mapping[str, float]) -> bool:
        """Pretraining: whether neither the main error nor the classifiers' losses have fallen for so long as patience
        lasts."""
        better = [name for name, value in numbers.items() if value < (1 - PROGRESS) * self.lowest.get(name, np.inf)]
        self.lowest |= {name: numbers[name] for name in better}
        self._count(bool(better))
        return self.stale >= self.schedule.patience or self.step >= self.schedule.pretrain

    def unlearned(self, better: bool) -> bool:
        """Unlearning: whether the best weights have stood for so long as patience lasts."""
        done = self.step - self.stage_began
        self._count(better or done <= SETTLING * self.schedule.every)
        return self.stale >= self.schedule.patience or done >= self.schedule.steps

    def keep(self, error: float, leaks: dict[str, float], weights: Mapping[str, Tensor]) -> bool:
        """Keep the weights if they are the best: a point of accuracy by which a nuisance is told better than chance and
        tolerance weighs as much as one per cent of the main error after pretraining."""
        self.looks = [*self.looks[1 - LOOKS :], leaks]
        leaks = {name: float(np.mean([look[name] for look in self.looks if name in look])) for name in leaks}
        excess = max([0.0, *(value - self.schedule.tolerance for value in leaks.values())])
        cost = excess + error / self.usual
        if self.kept and cost >= self.kept["cost"]:
            return False
        copies = {name: value.clone() for name, value in weights.items()}
        self.kept = {"cost": cost, "error": error, "leaks": leaks, "step": self.step, "weights": copies}
        return True

    def _count(self, better: bool) -> None:
        self.stale = 0 if better else self.stale + 1

    def begin_unlearning(self) -> None:
        self.stage, self.stage_began, self.stale, self.kept, self.looks = "unlearn", self.step, 0, None, []
        self.usual = max(self.lowest["error"], LEAST_ERROR)

    def state(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "schedule"}

    def load(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


def fit(
    unlearner: Unlearner,
    training: Samples,
    validation: Samples,
    error_of: ErrorOf,
    schedule: Schedule,
    folder: Path | None = None,
    name: str = "unlearning",
    augment: Augment | None = None,
) -> Outcome:
    """Train, or go on where a killed run stopped; `unlearner` ends with the best weights on `validation`.

    Without nuisances this is normal training. With them, those weights are kept that have the lowest sum of what the
    best-known nuisance is told better than chance and tolerance, and of the main error relative to that of pretraining:
    to forget at any price is to keep the first weights that have lost everything.

    Parameters
    ----------
    training, validation
        Of different persons.
    error_of
        The number to keep low.
    folder
        For the checkpoint, `log.csv` and `curves.png`; without it nothing is written.
    augment
        Changes each batch, by torch's generator, which is seeded by the step; such as `Poses`.

    Raises
    ------
    Usage
        A batch cannot hold one sample of each site.
    DataUnusable
        The main error is not a number any more.
    """
    torch.manual_seed(schedule.seed)
    journal, progress = Journal(folder), _Progress(schedule, "pretrain")
    live = (unlearner.encoder, unlearner.head)
    averages = nn.ModuleList(moving_average(network, MEMORY) for network in live)
    if state := journal.load():
        unlearner.load(state["unlearner"])
        progress.load(state["progress"])
        averages.load_state_dict(state["average"])
    batches = _Batches(unlearner, training, schedule, augment)
    window: dict[str, list[float]] = defaultdict(list)
    with tqdm(total=schedule.pretrain + bool(unlearner.nuisances) * schedule.steps, desc=name, mininterval=5) as bar:
        bar.update(progress.step)
        while progress.stage != "done":
            for key, value in batches.train_on(progress.step, progress.stage).items():
                window[key].append(value)
            for average, network in zip(averages, live, strict=True):
                average.update_parameters(network)
            progress.step += 1
            bar.update()
            if progress.step % schedule.every:
                continue
            names = [nuisance.name for nuisance in unlearner.nuisances]
            error, leaks = evaluate(
                *(average.module for average in averages), names, training, validation, error_of, unlearner.device
            )
            if not np.isfinite(error):
                raise DataUnusable(f"training diverged before step {progress.step}: lower the learning rate or beta")
            means = {key: float(np.mean(values)) for key, values in window.items()}
            told = {f"{key}_above_chance": value for key, value in leaks.items()}
            journal.rows.append({"step": progress.step, "error": error, **told, **means})
            bar.set_postfix_str(f"{progress.stage}, error {error:.4g}")
            _move_on(progress, names, averages, error, leaks, means)
            parts = {"unlearner": unlearner.state(), "average": averages.state_dict()}
            journal.save({**parts, "progress": progress.state()})
            window.clear()
    averages.load_state_dict(progress.kept["weights"])
    for network, average in zip(live, averages, strict=True):
        network.load_state_dict(average.module.state_dict())
    return Outcome(progress.kept["step"], progress.kept["error"], progress.kept["leaks"])


def evaluate(
    encoder: nn.Module,
    head: nn.Module,
    nuisances: Sequence[str],
    training: Samples,
    validation: Samples,
    error_of: ErrorOf,
    device: str = "cpu",
) -> tuple[float, dict[str, float]]:
    """Main error on the labelled validation samples, and for each nuisance by how much it is told better than chance:
    by a classifier that learned from features of training samples, never by the adversary itself."""
    vectors, outputs = apply(encoder, head, validation.inputs, device)
    error = error_of(outputs[validation.labelled], validation.target[validation.labelled])
    if not nuisances:
        return error, {}
    some = torch.linspace(0, len(training) - 1, min(MOST_FEATURES, len(training))).long()
    known_vectors, _ = apply(encoder, head, training.inputs[some], device)
    known = training.take(some)
    leaks = {}
    for name in nuisances:
        here, there = known.known(name), validation.known(name)
        if here.any() and there.any():
            labels = known.nuisances[name][here], validation.nuisances[name][there]
            leaks[name] = leak(known_vectors[here], labels[0], vectors[there], labels[1])
    return error, leaks


class _Batches:
    """What the steps see: a batch of those whose target is known, and batches of their own for nuisances that are
    unlearned on others."""

    def __init__(self, unlearner: Unlearner, training: Samples, schedule: Schedule, augment: Augment | None):
        self.unlearner, self.training, self.seed = unlearner, training, schedule.seed
        self.augment = augment or (lambda batch: batch)
        even = unlearner.per_site or unlearner.nuisances
        labelled = training.labelled.nonzero()[:, 0]  # the others are for the nuisances alone (equation 7)
        self.main = (
            EvenBatches(training.site, schedule.batch, schedule.seed, labelled)
            if even
            else PlainBatches(len(training), schedule.batch, schedule.seed)
        )
        self.subsets = {}
        for number, nuisance in enumerate(unlearner.nuisances, start=1):
            known = training.known(nuisance.name)
            labels = training.nuisances[nuisance.name]
            everybody = bool(known.all() and training.labelled.all())
            if labels.ndim == 1 and not (everybody and torch.equal(_ranks(labels), _ranks(training.site))):
                members = known.nonzero()[:, 0]
                self.subsets[nuisance.name] = EvenBatches(
                    labels, schedule.batch, schedule.seed + 1000 * number, members
                )

    def train_on(self, step: int, stage: str) -> dict[str, float]:
        """Update number `step`."""
        torch.manual_seed(self.seed * 10**7 + step)  # dropout and the like, so that a resumed run is the same run
        batch = self.augment(self.training.take(self.main(step)))
        subsets = {name: self.augment(self.training.take(picked(step))) for name, picked in self.subsets.items()}
        self.unlearner.train()
        if stage == "unlearn":
            self.unlearner.hold_statistics()
        update = self.unlearner.step if stage == "unlearn" else self.unlearner.pretrain_step
        return update(batch, subsets)


def _ranks(labels: Tensor) -> Tensor:
    """Class numbers counted from 0, without gaps."""
    return labels.unique(return_inverse=True)[1]


def _move_on(
    progress: _Progress,
    nuisances: Sequence[str],
    averages: nn.Module,
    error: float,
    leaks: dict[str, float],
    means: dict[str, float],
) -> None:
    """After an evaluation: keep the best weights, and go to the next stage when this one has given what it can."""
    if progress.stage == "unlearn":
        if progress.unlearned(progress.keep(error, leaks, averages.state_dict())):
            progress.stage = "done"
        return
    if not nuisances:
        progress.keep(error, {}, averages.state_dict())
    if progress.converged({"error": error, **{name: means[name] for name in nuisances if name in means}}):
        if nuisances:
            progress.begin_unlearning()
        else:
            progress.stage = "done"
