"""A quick look, during training, at what can be told from the features. The probe proper is `probe`."""

from __future__ import annotations

import torch
from torch import Tensor

RIDGE = 1.0  # penalty per hundred samples
HIDDEN = 256  # random units: what is not linear is seen too


def leak(known: Tensor, known_labels: Tensor, features: Tensor, labels: Tensor) -> float:
    """By how much a fresh classifier tells a nuisance better than chance; 0 is forgotten.

    The classifier is a ridge on the features and on random rectified units of them: solved at once, no training.

    Parameters
    ----------
    known, features
        Features (n, F) to learn from and (m, F) to judge by, of different persons.
    known_labels, labels
        Class numbers (n,), (m,): the result is balanced accuracy − 1/classes. Distributions (n, K), (m, K): the
        result is the squared correlation of the mean bin that is found with the true one.
    """
    known, features = _expanded(known, features)
    if known_labels.ndim == 2:
        bins = torch.arange(known_labels.shape[1], dtype=torch.float32)
        found = features @ _ridge(known, (known_labels @ bins)[:, None], torch.ones(len(known)))
        return _squared_correlation(found[:, 0], labels @ bins)
    classes = known_labels.unique()
    wanted = (known_labels[:, None] == classes).float()
    weights = (wanted / wanted.sum(dim=0)).sum(dim=1) * len(known) / len(classes)
    found = classes[(features @ _ridge(known, wanted, weights)).argmax(dim=1)]
    recalls = [(found[labels == c] == c).float().mean() for c in labels.unique()]
    return float(torch.stack(recalls).mean()) - 1 / len(recalls)


def _expanded(known: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    """Standardised by the known ones, with a constant and the random units, (n, 1 + F + HIDDEN)."""
    mean, std = known.mean(dim=0), known.std(dim=0)
    kept = std > 1e-6
    g = torch.Generator().manual_seed(0)
    weights = torch.randn(int(kept.sum()), HIDDEN, generator=g) / max(1, int(kept.sum())) ** 0.5
    offsets = torch.randn(HIDDEN, generator=g)

    def expand(x: Tensor) -> Tensor:
        x = (x[:, kept] - mean[kept]) / std[kept]
        return torch.cat([torch.ones(len(x), 1), x, (x @ weights + offsets).relu()], dim=1)

    return expand(known), expand(features)


def _ridge(x: Tensor, y: Tensor, weights: Tensor) -> Tensor:
    x, y, weights = x.double(), y.double(), weights.double()[:, None]
    penalty = RIDGE * len(x) / 100 * torch.eye(x.shape[1], dtype=torch.float64)
    return torch.linalg.solve(x.T @ (weights * x) + penalty, x.T @ (weights * y)).float()


def _squared_correlation(a: Tensor, b: Tensor) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = (a.square().sum() * b.square().sum()).sqrt()
    return float((a @ b / scale) ** 2) if scale > 1e-3 else 0.0
