"""The histogram network: what the quantiles of a brain would be on the reference's scanner."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from imunity_bids.models.imunity import CENTRE, SPREAD
from imunity_bids.models.quantiles import STEPS

CHANGE = 0.1  # scale of what the network adds
TYPICAL_ERROR = 0.03


class HistogramNet(nn.Module):
    """What the quantiles of a brain would be on the reference's scanner, and how far off its voxels will be there.

    Plain matching gives a brain the reference's histogram, and with it the volumes of another person's tissues. The
    network starts from that and learns what to change, from both histograms.
    """

    def __init__(self, width: int = 256):
        super().__init__()
        sizes = (2 * STEPS, width, width, width)
        hidden = [part for i, o in pairwise(sizes) for part in (nn.Linear(i, o), nn.GELU())]
        self.layers = nn.Sequential(*hidden, nn.Linear(width, 2 * STEPS))
        nn.init.normal_(self.layers[-1].weight, std=1e-3)
        nn.init.zeros_(self.layers[-1].bias)

    def forward(self, own: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
        """Quantiles (B, STEPS) of brain and reference -> quantiles, in order, in [0, 1], and root mean square errors
        of the brain's voxels at these quantiles, both (B, STEPS)."""
        change, error = self.layers((torch.cat([own, reference], dim=1) - CENTRE) / SPREAD).chunk(2, dim=1)
        return (reference + CHANGE * change).cummax(dim=1).values.clamp(0, 1), TYPICAL_ERROR * error.exp()
