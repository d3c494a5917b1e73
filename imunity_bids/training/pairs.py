"""Pairs of slices: S1 gives the anatomy, S2 of the same brain the contrast (Cackowski 2023, section 2.2.1)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from imunity_bids.errors import Usage
from imunity_bids.models.card import AXES
from imunity_bids.models.histogram import HistogramNet
from imunity_bids.models.quantiles import quantiles
from imunity_bids.simulation import contrast
from imunity_bids.training.dataset import Brain

APART = 10  # slices between S1 and S2 at least
BRAIN_SHARE = 0.01  # of a slice that is used
KIND_SHARES = (0.15, 0.1, 0.15, 0.6)  # own contrast, γ, random curve, simulated sequence
UNEVEN = 0.15  # largest standard deviation of the transmit field


class Batch(NamedTuple):
    """Pairs of slices in their own contrast, and what is known of their brains."""

    s1: Tensor  # (B, 1, crop, crop) float32, with some brain in each
    s2: Tensor  # of the same brain, likewise
    tissue_means: Tensor  # intensities of CSF and gray matter of the brain, (B, 2)
    quantiles: Tensor  # intensities of the brain, (B, Q)
    other_quantiles: Tensor  # of another brain of the same site, (B, Q)
    site: Tensor  # number, (B)
    brain: Tensor  # number, (B)


class Example(NamedTuple):
    """What the generator sees and what it is to make of it, all (B, 1, H, W) in [0, 1]."""

    seen: Tensor  # S1 in a source contrast
    reference: Tensor  # S2 in the target contrast, S2γ in the paper
    target: Tensor  # S1 in the target contrast, S1γ in the paper


def check_batch_size(size: int, sites: int) -> None:
    """Every batch holds a slice of each site (Dinsdale 2020, section 2.4), so it must be as long as there are sites.

    Raises
    ------
    Usage
        It is shorter.
    """
    if size < sites:
        raise Usage(
            f"--batch {size} is too small for {sites} sites: each batch holds a slice of every site, with and without "
            f"unlearning, or some sites would never be trained on; give --batch {sites} or more"
        )


class Pairs:
    """Random crops of S1 and S2 along one axis; every batch has a slice of each site."""

    def __init__(self, brains: list[Brain], axis: str, crop: int = 96):
        self.stacks = [brain.volume.movedim(AXES.index(axis), 0) for brain in brains]
        self.crop = crop
        self.usable = [
            torch.nonzero((stack > 0).float().mean(dim=(1, 2)) >= BRAIN_SHARE).flatten() for stack in self.stacks
        ]
        self.tissue_means = torch.stack([brain.tissue_means for brain in brains])
        self.quantiles = torch.stack([quantiles(brain.volume[brain.volume > 0]) for brain in brains])
        self.sites = torch.tensor([brain.site for brain in brains])
        self.by_site = [torch.nonzero(self.sites == site).flatten() for site in self.sites.unique()]

    def batch(self, size: int, g: torch.Generator) -> Batch:
        """So many pairs, in turn from each site; S1 and S2 are drawn anew each time.

        Raises
        ------
        Usage
            There are more sites than pairs.
        """
        check_batch_size(size, len(self.by_site))
        chosen, others = [], []
        for index in range(size):
            members = self.by_site[index % len(self.by_site)]
            for drawn in (chosen, others):
                drawn.append(int(members[torch.randint(len(members), (1,), generator=g)]))
        pairs = [self._pair(brain, g) for brain in chosen]
        first, second = (torch.stack(part)[:, None].float() for part in zip(*pairs, strict=True))
        return Batch(
            s1=first,
            s2=second,
            tissue_means=self.tissue_means[chosen],
            quantiles=self.quantiles[chosen],
            other_quantiles=self.quantiles[others],
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


def make_example(
    batch: Batch,
    g: torch.Generator,
    paper_contrast: bool = False,
    prematch: bool = False,
    histogram: HistogramNet | None = None,
) -> Example:
    """ONE new contrast per pair for S2 and the target, another one for the S1 that the generator sees.

    Parameters
    ----------
    paper_contrast
        S1 as it is, and γ for the target; otherwise one of four kinds of contrasts for each, and what a scanner adds.
    prematch
        Whether the histogram of S1 is matched to that of another brain in the target contrast, as inference does it.
    histogram
        Says what to match to instead.
    """
    if paper_contrast:
        gamma = contrast.draw_gamma(len(batch.s1), g)
        seen, reference, target = batch.s1, *(contrast.gamma_corrected(t, gamma) for t in (batch.s2, batch.s1))
        own, wanted = batch.quantiles, batch.other_quantiles.pow(gamma)
    else:
        curves, source = _random_contrasts(batch.tissue_means, g), _random_contrasts(batch.tissue_means, g)
        seen = contrast.scanner(contrast.recolour(batch.s1, source), g)
        reference = contrast.scanner(contrast.recolour(batch.s2, curves), g)
        # The uneven fields of a scanner are in the images, but not in what is asked for.
        target = contrast.recolour(batch.s1, curves.mean(dim=(2, 3), keepdim=True))
        own = contrast.quantiles_after(batch.quantiles, source)
        wanted = contrast.quantiles_after(batch.other_quantiles, curves)
    if prematch:
        seen = contrast.prematch(seen, own, wanted, histogram)
    return Example(seen, reference, target)


def _random_contrasts(tissue_means: Tensor, g: torch.Generator) -> Tensor:
    """Curves (B, K, 3, 3): the scan's own contrast, a γ, any monotone curve, or a simulated sequence's."""
    count = len(tissue_means)
    kinds = torch.stack(
        [
            contrast.identity_curves(count).expand(-1, -1, 3, 3),
            contrast.gamma_curves(count, g).expand(-1, -1, 3, 3),
            contrast.random_curves(count, g).expand(-1, -1, 3, 3),
            contrast.sequence_curves(tissue_means, g, UNEVEN),
        ]
    )
    chosen = torch.multinomial(torch.tensor(KIND_SHARES), count, replacement=True, generator=g)
    return kinds[chosen, torch.arange(count)]
