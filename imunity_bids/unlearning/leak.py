"""A quick look, during training, at what a linear reader of the features can tell. The probe proper is `probe`."""

from __future__ import annotations

import torch
from torch import Tensor

RIDGE = 1.0  # per feature of variance 1 and class of even weight, relative to a hundred samples


def leak(known: Tensor, known_labels: Tensor, features: Tensor, labels: Tensor) -> float:
    """By how much a fresh ridge classifier tells a nuisance better than chance; 0 is forgotten.

    Parameters
    ----------
    known, features
        Features (n, F) to learn from and (m, F) to judge by, of different persons.
    known_labels, labels
        Class numbers (n,), (m,): the result is balanced accuracy − 1/classes. Distributions (n, K), (m, K): the
        result is the squared correlation of the mean bin that is found with the true one.
    """
    mean, std = known.mean(dim=0), known.std(dim=0).clamp(min=1e-6)
    known, features = (torch.cat([(x - mean) / std, torch.ones(len(x), 1)], dim=1) for x in (known, features))
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


def _ridge(x: Tensor, y: Tensor, weights: Tensor) -> Tensor:
    x, y, weights = x.double(), y.double(), weights.double()[:, None]
    penalty = RIDGE * len(x) / 100 * torch.eye(x.shape[1], dtype=torch.float64)
    return torch.linalg.solve(x.T @ (weights * x) + penalty, x.T @ (weights * y)).float()


def _squared_correlation(a: Tensor, b: Tensor) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = (a.square().sum() * b.square().sum()).sqrt()
    return float((a @ b / scale) ** 2) if scale > 0 else 0.0
