"""Pairs of slices: S1 gives the anatomy, S2 of the same brain the contrast (Cackowski 2023, section 2.2.1)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from imunity_bids.models.card import AXES
from imunity_bids.models.imunity import DARKEST
from imunity_bids.training.dataset import Brain
from imunity_bids.unlearning.sampler import EvenBatches

APART = 10  # slices between S1 and S2 at least
BRAIN_SHARE = 0.01  # of a slice that is used
GAMMA = (0.5, 1.5)


class Batch(NamedTuple):
    """Pairs of slices in their own contrast, and what is known of their brains."""

    s1: Tensor  # (B, 1, crop, crop) float32, with some brain in each
    s2: Tensor  # of the same brain, likewise
    site: Tensor  # number, (B)
    brain: Tensor  # number, (B)


class Example(NamedTuple):
    """What the generator sees and what it is to make of it, all (B, 1, H, W) in [0, 1]."""

    seen: Tensor  # S1
    reference: Tensor  # S2γ
    target: Tensor  # S1γ


class Pairs:
    """Random crops of S1 and S2 along one axis; every batch has a slice of each site (Dinsdale 2020, section 2.4).

    Parameters
    ----------
    size
        Pairs in a batch, about as many of each site.
    seed
        Of the order in which brains are walked through.

    Raises
    ------
    Usage
        There are more sites than pairs.
    """

    def __init__(self, brains: list[Brain], axis: str, crop: int = 96, size: int = 16, seed: int = 1):
        self.stacks = [brain.volume.movedim(AXES.index(axis), 0) for brain in brains]
        self.crop = crop
        self.usable = [
            torch.nonzero((stack > 0).float().mean(dim=(1, 2)) >= BRAIN_SHARE).flatten() for stack in self.stacks
        ]
        self.sites = torch.tensor([brain.site for brain in brains])
        self.even = EvenBatches(self.sites, size, seed)

    def batch(self, step: int, g: torch.Generator) -> Batch:
        """The brains of batch `step` = 0, 1, …; their S1 and S2 are drawn anew each time."""
        chosen = self.even(step).tolist()
        pairs = [self._pair(brain, g) for brain in chosen]
        first, second = (torch.stack(part)[:, None].float() for part in zip(*pairs, strict=True))
        return Batch(
            s1=first,
            s2=second,
            site=self.sites[chosen],
            brain=torch.tensor(chosen),
        )

    def _pair(self, brain: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
        usable = self.usable[brain]
        first = usable[torch.randint(len(usable), (1,), generator=g)]
        far = usable[(usable - first).abs() >= APART]
        second = far[torch.randint(len(far), (1,), generator=g)]
        return self._crop(self.stacks[brain][int(first)], g), self._crop(self.stacks[brain][int(second)], g)

    def _crop(self, image: Tensor, g: torch.Generator) -> Tensor:
        """A window around a random pixel of the brain, zeros beyond the image."""
        half = self.crop // 2
        pixels = torch.nonzero(image > 0)
        row, column = pixels[torch.randint(len(pixels), (1,), generator=g)][0].tolist()
        padded = torch.nn.functional.pad(image, (half, half, half, half))
        return padded[row : row + self.crop, column : column + self.crop]


def make_example(batch: Batch, g: torch.Generator) -> Example:
    """ONE new contrast per pair, a γ that is uniform between 0.5 and 1.5, for S2 and the target (section 2.2.1)."""
    gamma = GAMMA[0] + (GAMMA[1] - GAMMA[0]) * torch.rand(len(batch.s1), 1, 1, 1, generator=g)
    reference, target = (image.pow(gamma).clamp(DARKEST, 1) * (image > 0) for image in (batch.s2, batch.s1))
    return Example(batch.s1, reference, target)
