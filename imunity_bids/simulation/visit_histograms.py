"""Many persons on many scanners, as histograms only: what the histogram network learns from.

Persons are made and imaged as in the evaluation with traveling subjects (`visits`), but they are other persons, and
protocols and tissue parameters are random ones (`protocols.draw_protocols`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from imunity_bids.image.white_stripe import to_model_scale, white_stripe
from imunity_bids.models.quantiles import STEPS
from imunity_bids.simulation.fields import residual_receive_field, transmit_field
from imunity_bids.simulation.persons import Person
from imunity_bids.simulation.protocols import Protocols, draw_protocols, tissue_levels
from imunity_bids.simulation.scanners import BLUR, NOISE, TRANSMIT
from imunity_bids.simulation.visits import SCATTER

STRIDE = 3  # every so many voxels are enough for a histogram
RESOLUTIONS = 4  # of each person; the first is the brain's own
FLIPS = torch.linspace(0.6, 1.4, 33)  # relative flip angles at which signals are tabulated
TISSUE_SPREAD = 0.05  # log-normal, of the share that a tissue has in a brain
RESIDUAL_RECEIVE = 0.04  # largest amplitude of what N4 leaves of a receive field
MIDDLE = 0.06  # standard deviation of where the transmit field is largest, in half widths of the brain


class Visits(NamedTuple):
    """N visits of persons to scanners. Visits 2k and 2k + 1 are partners: two persons on one scanner."""

    quantiles: Tensor  # of the scan as the app preprocesses it, (N, Q)
    response: Tensor  # how the truth at each of these quantiles answers to the levels of the tissues, (N, Q, 3)
    scatter: Tensor  # covariance of that over the voxels at the quantile, (N, Q, 3, 3)
    person: Tensor  # (N,)
    protocol: Protocols  # N of them
    t1: Tensor  # the person's, relative to the usual, (N, 3)
    unit: Tensor  # factor by which white stripe missed the level of white matter, (N,)


@dataclass(frozen=True)
class _Sample:
    """A person at a part of the voxels."""

    parts: list[np.ndarray]  # (3, n) for each resolution
    position: np.ndarray  # (n, 3), from -1 to 1
    tissue: np.ndarray  # the largest fraction's number, (n,)


def partner(visit: Tensor) -> Tensor:
    """Numbers of the visits of the other person to the same scanner; visits are numbered from 0, in pairs."""
    return visit ^ 1


def simulate_visits(people: list[Person], count: int, seed: int) -> Visits:
    """An even number of visits, each pair by two different persons to one scanner (by one, where there is only one)."""
    rng, g = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    samples = [_sample(person, rng) for person in people]
    protocols = draw_protocols(count // 2, g)
    rows = []
    for scanner in range(count // 2):
        protocol = protocols.rows(slice(scanner, scanner + 1))
        for number in rng.choice(len(samples), 2, replace=len(samples) == 1):
            t1 = torch.from_numpy(1 + SCATTER * rng.standard_normal(3)).float()
            measured, unit = _visit(samples[number], tissue_levels(protocol, t1[None], FLIPS)[0].numpy(), rng)
            rows.append((*measured, torch.tensor(int(number)), t1, torch.tensor(unit)))
    quantiles, response, scatter, person, t1, unit = (torch.stack(column) for column in zip(*rows, strict=True))
    both = protocols.rows(torch.arange(count // 2).repeat_interleave(2))
    return Visits(quantiles, response, scatter, person, both, t1, unit)


def truth(visits: Visits, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """What the voxels at the quantiles of visits `source` would be on the scanners of visits `target`, numbers (B).

    Mean and standard deviation over the voxels at each quantile, both (B, Q). White stripe misses its level anew at
    every visit: here by as much as for the other person on that scanner.
    """
    levels = tissue_levels(visits.protocol.rows(target), visits.t1[source], torch.ones(1))
    levels = levels * visits.unit[partner(target), None, None]
    mean = torch.bmm(visits.response[source], levels).squeeze(2).clamp(0, 1)
    variance = torch.einsum("bi,bqij,bj->bq", levels.squeeze(2), visits.scatter[source], levels.squeeze(2))
    return mean, variance.clamp(min=0).sqrt()


def _sample(person: Person, rng: np.random.Generator) -> _Sample:
    take = tuple(slice(start, None, STRIDE) for start in rng.integers(0, STRIDE, 3))
    mask = person.mask[take]
    where = np.argwhere(mask).astype(np.float32)
    low, high = where.min(axis=0), where.max(axis=0)
    parts = [person.parts]
    for _ in range(RESOLUTIONS - 1):
        sigma = rng.uniform(0, BLUR, 3) * rng.integers(0, 2, 3)
        weight = np.maximum(ndimage.gaussian_filter(person.mask.astype(np.float32), sigma), 1e-3)
        parts.append(np.stack([ndimage.gaussian_filter(part, sigma) for part in person.parts]) / weight)
    return _Sample(
        parts=[part[(slice(None), *take)][:, mask].astype(np.float32) for part in parts],
        position=(where - (low + high) / 2) / ((high - low) / 2),
        tissue=person.fractions[(slice(None), *take)][:, mask].argmax(axis=0),
    )


def _visit(sample: _Sample, table: np.ndarray, rng: np.random.Generator) -> tuple[tuple[Tensor, ...], float]:
    """Quantiles, response and its scatter of one visit, and its unit; `table` holds levels (3, F) at `FLIPS`."""
    excess = rng.uniform(0, TRANSMIT)
    flip = transmit_field(((sample.position - rng.normal(0, MIDDLE, 3)) ** 2).sum(axis=1), excess)
    level = np.stack([np.interp(flip, FLIPS.numpy(), row) for row in table])
    image = (level * sample.parts[rng.integers(RESOLUTIONS)]).sum(axis=0).clip(min=0)
    image *= 1 + rng.uniform(0, RESIDUAL_RECEIVE) * residual_receive_field(sample.position, rng)
    noise = rng.uniform(*NOISE) * rng.standard_normal((2, len(image)))
    noisy = np.hypot(image + noise[0], noise[1]).astype(np.float32)[:, None, None]  # Rician; a volume one voxel thick
    core = (sample.tissue == 2)[:, None, None]  # instead of the template's: these voxels have lost their places
    stripe = white_stripe(noisy, np.ones_like(noisy, bool), core)
    scan = to_model_scale(noisy, np.ones_like(noisy, bool), stripe)[0].ravel()

    weight = np.exp(TISSUE_SPREAD * rng.standard_normal(3))[sample.tissue]
    order = np.argsort(scan)
    rank = np.cumsum(weight[order])
    quantiles = np.interp(np.linspace(0, 1, STEPS), (rank - weight[order] / 2) / rank[-1], scan[order])
    bins = np.empty(len(scan), int)
    bins[order] = np.rint((rank - weight[order] / 2) / rank[-1] * (STEPS - 1))
    total = np.maximum(np.bincount(bins, weight, STEPS), 1e-9)

    def mean(values: np.ndarray) -> np.ndarray:
        return np.bincount(bins, weight * values, STEPS) / total

    parts = sample.parts[rng.integers(RESOLUTIONS)]  # at the resolution of the scanner to go to
    response = np.stack([mean(part) for part in parts], axis=1)
    square = np.stack([np.stack([mean(one * two) for two in parts], axis=1) for one in parts], axis=1)
    scatter = square - response[:, :, None] * response[:, None, :]
    return tuple(torch.from_numpy(array).float() for array in (quantiles, response, scatter)), stripe.scale
