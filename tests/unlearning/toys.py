"""Pictures of 16×16: a disc whose radius is asked for, and a scanner that paints its own pattern over it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from imunity_bids.unlearning.networks import SiteHead
from imunity_bids.unlearning.samples import Samples
from imunity_bids.unlearning.trainer import Nuisance, Unlearner

SIZE, FEATURES = 16, 6


def discs(count: int, seed: int, painted: bool = True, sites: int = 2) -> Samples:
    """Radius 3 to 7 as target from 0 to 1; site s brightens a stripe of its own and scales all."""
    rng = np.random.default_rng(seed)
    target, site = rng.uniform(0, 1, count), np.arange(count) % sites
    row, column = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    distance = np.hypot(row + rng.normal(0, 0.7, (count, 1, 1)), column + rng.normal(0, 0.7, (count, 1, 1)))
    images = 1 / (1 + np.exp(2 * (distance - 3 - 4 * target[:, None, None])))
    images += 0.2 * rng.standard_normal(images.shape)
    if painted:
        images *= 1 + 0.7 * site[:, None, None]
        images[np.arange(count), 2 * site] += 2.0
    target = target + rng.normal(0, 0.08, count)  # no picture tells all
    labels = torch.from_numpy(site)
    images = torch.from_numpy(images[:, None]).float()
    known = torch.ones(count, dtype=torch.bool)
    return Samples(images, torch.from_numpy(target).float(), known, labels, {"site": labels})


def network(*nuisances: str, sites: int = 2, seed: int = 0, **options) -> Unlearner:
    torch.manual_seed(seed)
    encoder = nn.Sequential(
        *(nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(256, FEATURES), nn.ReLU()),
    )
    head = nn.Linear(FEATURES, 1)
    heads = [Nuisance(name, SiteHead(FEATURES, sites), beta=0.5) for name in nuisances]
    return Unlearner(encoder, head, squared, heads, rate=2e-3, **options)


def squared(output: Tensor, target: Tensor) -> Tensor:
    return (output[:, 0] - target) ** 2


def mean_absolute(output: Tensor, target: Tensor) -> float:
    return float((output[:, 0] - target).abs().mean())
