"""The main task: which loss it has, what its outputs mean, and how wrong they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from imunity_bids.errors import Usage

KINDS = ("regression", "classification", "segmentation")
SMOOTH = 1.0  # voxels, in the Dice loss: a slice without a tissue has no undefined loss


@dataclass(frozen=True)
class Task:
    """What a network is asked for.

    A target is a number of mean 0 and deviation 1 (regression), a class number, or a map of class numbers, the first
    class being background (segmentation).
    """

    name: str  # column of participants.tsv, or suffix of the label images
    kind: str
    classes: tuple[str, ...] = ()
    mean: float = 0.0  # of the training persons' values, regression only
    std: float = 1.0

    @property
    def outputs(self) -> int:
        """Channels of the main head."""
        return 1 if self.kind == "regression" else len(self.classes)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """One number per sample, (B,): squared error, cross-entropy, or 1 − mean Dice of the classes but the first."""
        if self.kind == "regression":
            return (output[:, 0] - target).square()
        if self.kind == "classification":
            return F.cross_entropy(output, target, reduction="none")
        shares, wanted = output.softmax(dim=1)[:, 1:], _one_hot(target, len(self.classes))[:, 1:]
        both, total = (shares * wanted).sum(dim=(2, 3)), (shares + wanted).sum(dim=(2, 3))
        return 1 - ((2 * both + SMOOTH) / (total + SMOOTH)).mean(dim=1)

    def error(self, output: Tensor, target: Tensor) -> float:
        """Mean absolute error in the unit of the column, 1 − balanced accuracy, or 1 − mean Dice over all voxels."""
        if self.kind == "regression":
            return float((output[:, 0] - target).abs().mean()) * self.std
        found = output.argmax(dim=1)
        if self.kind == "classification":
            recalls = [(found[target == c] == c).float().mean() for c in target.unique()]
            return 1 - float(torch.stack(recalls).mean())
        return 1 - float(np.mean(dice(found, target, len(self.classes))))

    def answers(self, output: Tensor) -> list[Any]:
        """Outputs (B, …) as values of the column, one per sample: numbers, or names of classes."""
        if self.kind == "regression":
            return [float(value) * self.std + self.mean for value in output[:, 0]]
        return [self.classes[int(number)] for number in output.argmax(dim=1)]

    def to_dict(self) -> dict[str, Any]:
        """For the card; `Task(**…)` reads it back."""
        return asdict(self) | {"classes": list(self.classes)}


def column_task(
    name: str, kind: str, values: Sequence[str | None], option: str = "--task"
) -> tuple[Task, Tensor, Tensor]:
    """The task, targets (n,) and which are known (n,), from a column of participants.tsv with None where it is missing.

    `option` is what named the column on the command line.

    Raises
    ------
    Usage
        A regression on words, or fewer than two different values.
    """
    known = torch.tensor([value is not None for value in values])
    given = [value for value in values if value is not None]
    if len(set(given)) < 2:
        raise Usage(f"{option} {name}: there are {len(set(given))} different values of it; two are needed at least")
    if kind == "classification":
        classes = tuple(sorted(set(given)))
        target = torch.tensor([classes.index(value) if value is not None else 0 for value in values])
        return Task(name, kind, classes), target, known
    numbers = torch.tensor([_number(name, value) if value is not None else torch.nan for value in values])
    mean, std = float(numbers[known].mean()), float(numbers[known].std())
    return Task(name, kind, (), mean, std), ((numbers - mean) / std).nan_to_num(), known


def dice(found: Tensor, target: Tensor, classes: int) -> list[float]:
    """Dice of each class but the first over all voxels of class maps (n, …); 1 where a class is in neither."""
    scores = []
    for number in range(1, classes):
        ours, theirs = found == number, target == number
        total = int(ours.sum() + theirs.sum())
        scores.append(2 * int((ours & theirs).sum()) / total if total else 1.0)
    return scores


def _one_hot(target: Tensor, classes: int) -> Tensor:
    return F.one_hot(target, classes).movedim(-1, 1).float()


def _number(name: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise Usage(f"--task {name}: {value!r} is no number; --type classification takes words") from None
