"""The whole training: main task and classifiers until both converge, then unlearning until nothing is left to gain."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from imunity_bids.errors import DataUnusable
from imunity_bids.unlearning.journal import Journal
from imunity_bids.unlearning.leak import leak
from imunity_bids.unlearning.sampler import EvenBatches, PlainBatches
from imunity_bids.unlearning.samples import Samples
from imunity_bids.unlearning.trainer import Unlearner, apply

ErrorOf = Callable[[Tensor, Tensor], float]  # outputs and targets to one number, lower is better
PROGRESS = 0.01  # relative, of what counts as one
MOST_FEATURES = 512  # training samples that the check of the chance level learns from
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
        self.stale = 0
        self.kept: dict[str, Any] | None = None

    def pretrained(self, numbers: Mapping[str, float]) -> bool:
        """Whether neither the main error nor the classifiers' losses have fallen for so long as patience lasts."""
        better = [name for name, value in numbers.items() if value < (1 - PROGRESS) * self.lowest.get(name, np.inf)]
        self.lowest |= {name: numbers[name] for name in better}
        self.stale = 0 if better else self.stale + 1
        return self.stale >= self.schedule.patience or self.step >= self.schedule.pretrain

    def keep(self, error: float, leaks: dict[str, float], weights: dict[str, dict[str, Tensor]]) -> None:
        """Keep the weights if they are the best: nuisances forgotten first, the main task among those."""
        rank = (max([0.0, *(value - self.schedule.tolerance for value in leaks.values())]), error)
        best = self.kept and (self.kept["excess"], self.kept["error"])
        if best and rank >= best:
            self.stale += self.step - self.stage_began > SETTLING * self.schedule.every
            return
        self.stale = 0
        copies = {name: {key: value.clone() for key, value in part.items()} for name, part in weights.items()}
        self.kept = {"excess": rank[0], "error": error, "leaks": leaks, "step": self.step, "weights": copies}

    def unlearned(self) -> bool:
        """Whether the best weights have stood for so long as patience lasts."""
        done = self.step - self.stage_began
        return self.stale >= self.schedule.patience or done >= self.schedule.steps

    def next_stage(self, stage: str) -> None:
        self.stage, self.stage_began, self.stale, self.kept = stage, self.step, 0, None

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
) -> Outcome:
    """Train, or go on where a killed run stopped; `unlearner` ends with the best weights on `validation`.

    Without nuisances this is normal training. With them, weights count as best when every nuisance is forgotten to
    within the tolerance of chance, and the main error is lowest among those; while no weights forget that much, those
    are kept that forget most.

    Parameters
    ----------
    training, validation
        Of different persons.
    error_of
        The number to keep low.
    folder
        For the checkpoint, `log.csv` and `curves.png`; without it nothing is written.

    Raises
    ------
    Usage
        A batch cannot hold one sample of each site.
    DataUnusable
        The main error is not a number any more.
    """
    torch.manual_seed(schedule.seed)
    journal, progress = Journal(folder), _Progress(schedule, "pretrain")
    if state := journal.load():
        unlearner.load(state["unlearner"])
        progress.load(state["progress"])
    batches = _Batches(unlearner, training, schedule)
    window: dict[str, list[float]] = defaultdict(list)
    with tqdm(total=schedule.pretrain + bool(unlearner.nuisances) * schedule.steps, desc=name, mininterval=5) as bar:
        bar.update(progress.step)
        while progress.stage != "done":
            for key, value in batches.train_on(progress.step, progress.stage).items():
                window[key].append(value)
            progress.step += 1
            bar.update()
            if progress.step % schedule.every:
                continue
            error, leaks = evaluate(unlearner, training, validation, error_of)
            if not np.isfinite(error):
                raise DataUnusable(f"training diverged before step {progress.step}: lower the learning rate or beta")
            means = {key: float(np.mean(values)) for key, values in window.items()}
            told = {f"{key}_above_chance": value for key, value in leaks.items()}
            journal.rows.append({"step": progress.step, "error": error, **told, **means})
            bar.set_postfix_str(f"{progress.stage}, error {error:.4g}")
            _move_on(progress, unlearner, error, leaks, means)
            journal.save({"unlearner": unlearner.state(), "progress": progress.state()})
            window.clear()
    for part, module in unlearner.modules().items():
        module.load_state_dict(progress.kept["weights"][part])
    return Outcome(progress.kept["step"], progress.kept["error"], progress.kept["leaks"])


def evaluate(
    unlearner: Unlearner, training: Samples, validation: Samples, error_of: ErrorOf
) -> tuple[float, dict[str, float]]:
    """Main error on the labelled validation samples, and for each nuisance by how much it is told better than chance:
    by a classifier that learned from features of training samples, never by the adversary itself."""
    vectors, outputs = apply(unlearner.encoder, unlearner.head, validation.inputs, unlearner.device)
    error = error_of(outputs[validation.labelled], validation.target[validation.labelled])
    if not unlearner.nuisances:
        return error, {}
    some = torch.linspace(0, len(training) - 1, min(MOST_FEATURES, len(training))).long()
    known_vectors, _ = apply(unlearner.encoder, unlearner.head, training.inputs[some], unlearner.device)
    known = training.take(some)
    leaks = {}
    for nuisance in unlearner.nuisances:
        here, there = known.known(nuisance.name), validation.known(nuisance.name)
        if here.any() and there.any():
            labels = known.nuisances[nuisance.name][here], validation.nuisances[nuisance.name][there]
            leaks[nuisance.name] = leak(known_vectors[here], labels[0], vectors[there], labels[1])
    return error, leaks


class _Batches:
    """What the steps see: a batch for all, and batches of their own for nuisances unlearned on a part only."""

    def __init__(self, unlearner: Unlearner, training: Samples, schedule: Schedule):
        self.unlearner, self.training, self.seed = unlearner, training, schedule.seed
        even = unlearner.per_site or unlearner.nuisances
        self.main = (
            EvenBatches(training.site, schedule.batch, schedule.seed)
            if even
            else PlainBatches(len(training), schedule.batch, schedule.seed)
        )
        self.subsets = {}
        for number, nuisance in enumerate(unlearner.nuisances, start=1):
            known = training.known(nuisance.name)
            labels = training.nuisances[nuisance.name]
            if labels.ndim == 1 and (not known.all() or not torch.equal(labels, training.site)):
                members = known.nonzero()[:, 0]
                self.subsets[nuisance.name] = EvenBatches(labels, schedule.batch, schedule.seed + 1000 * number, members)

    def train_on(self, step: int, stage: str) -> dict[str, float]:
        """Update number `step`."""
        torch.manual_seed(self.seed * 10**7 + step)  # dropout and the like, so that a resumed run is the same run
        subsets = {name: self.training.take(batches(step)) for name, batches in self.subsets.items()}
        self.unlearner.train()
        update = self.unlearner.step if stage == "unlearn" else self.unlearner.pretrain_step
        return update(self.training.take(self.main(step)), subsets)


def _move_on(
    progress: _Progress, unlearner: Unlearner, error: float, leaks: dict[str, float], means: dict[str, float]
) -> None:
    """After an evaluation: keep the best weights, and go to the next stage when this one has given what it can."""
    weights = {name: module.state_dict() for name, module in unlearner.modules().items()}
    if progress.stage == "unlearn":
        progress.keep(error, leaks, weights)
        if progress.unlearned():
            progress.stage = "done"
        return
    stale = progress.stale
    progress.keep(error, {}, weights)
    progress.stale = stale
    heads = {nuisance.name: means[nuisance.name] for nuisance in unlearner.nuisances if nuisance.name in means}
    if progress.pretrained({"error": error, **heads}):
        if unlearner.nuisances:
            progress.next_stage("unlearn")
        else:
            progress.stage = "done"
