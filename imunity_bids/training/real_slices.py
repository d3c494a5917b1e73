"""Slices of real scans: for what is to be unlearned or kept in the anatomy codes, which no simulation knows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from imunity_bids.models.quantiles import quantiles
from imunity_bids.training.visit_batches import PAIR_SLICES, Stack, code_slices, draw_slice
from imunity_bids.unlearning.sampler import EvenBatches


class RealBatch(NamedTuple):
    """R real volumes, B slices of them."""

    code_slices: Tensor  # (R, S, h, w)
    code_places: Tensor  # (R, S, 3, h, w)
    quantiles: Tensor  # (R, Q)
    target: Tensor  # number of the simulated volume that is its reference, (R,)
    pair: Tensor  # number of the volume that a slice belongs to, (B,)
    image: Tensor  # (B, 1, H, W)
    places: Tensor  # (B, 3, H, W)
    site: Tensor  # number, (B,)
    brain: Tensor  # number, (B,)


class RealSlices:
    """Draws real volumes of every site, the same number of each.

    Parameters
    ----------
    stacks
        One for each brain.
    sites
        Number of each brain's site.
    seed
        Of the order in which brains are walked through.
    """

    def __init__(self, stacks: list[Stack], sites: list[int], seed: int = 1):
        self.stacks = stacks
        self.scans = [stack.person.scan for stack in stacks]
        self.site = torch.tensor(sites)
        self.sites = len(self.site.unique())
        self.even = EvenBatches(self.site, self.sites, seed)
        self.quantiles = torch.stack([quantiles(torch.from_numpy(scan.astype(np.float32))) for scan in self.scans])

    def batch(self, step: int, references: int, g: torch.Generator) -> RealBatch:
        """Batch `step` = 0, 1, …: a volume of each site, each with one of so many simulated ones as its reference."""
        chosen = self.even(step)
        target = torch.randint(references, (len(chosen),), generator=g)
        rng = np.random.default_rng(int(torch.randint(2**62, (1,), generator=g)))
        pair = torch.arange(len(chosen)).repeat_interleave(PAIR_SLICES)
        seen = [code_slices(self.stacks[n], self.scans[n], rng) for n in chosen.tolist()]
        drawn = [draw_slice(self.stacks[brain], self.scans[brain], rng) for brain in chosen[pair].tolist()]
        return RealBatch(
            code_slices=torch.stack([slices for slices, _ in seen]),
            code_places=torch.stack([where for _, where in seen]),
            quantiles=self.quantiles[chosen],
            target=target,
            pair=pair,
            image=torch.stack([image for _, image, _ in drawn])[:, None],
            places=torch.stack([where for _, _, where in drawn]),
            site=self.site[chosen[pair]],
            brain=chosen[pair],
        )
