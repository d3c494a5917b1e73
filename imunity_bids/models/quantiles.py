"""Intensity distributions as quantiles at 0, 1, …, 100 %, maps that take one to another, and what to aim at."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from imunity_bids.models.imunity import CENTRE, SPREAD

STEPS = 101
CHANGE = 0.1  # scale of what the network adds
TYPICAL_ERROR = 0.03


def quantiles(values: Tensor) -> Tensor:
    """Of a 1D tensor: (STEPS,) float32."""
    ordered = values.float().sort().values
    position = torch.linspace(0, len(ordered) - 1, STEPS)
    left = position.long().clamp(max=max(len(ordered) - 2, 0))
    right = (left + 1).clamp(max=len(ordered) - 1)
    return torch.lerp(ordered[left], ordered[right], position - left)


def match(values: Tensor, own: Tensor, target: Tensor) -> Tensor:
    """Histogram matching, row by row: values (B, N) whose quantiles are `own` (B, Q) get those of `target` (B, Q).

    Values beyond the extremes keep their distance to them.
    """
    own, values = own.contiguous(), values.contiguous()
    right = torch.searchsorted(own, values).clamp(1, own.shape[1] - 1)
    low, high = own.gather(1, right - 1), own.gather(1, right)
    share = ((values - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)
    inside = torch.lerp(target.gather(1, right - 1), target.gather(1, right), share)
    beyond = (values - own[:, -1:]).clamp(min=0) + (values - own[:, :1]).clamp(max=0)
    return inside + beyond


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
