"""Intensity distributions as quantiles at 0, 1, …, 100 % and maps that take one to another."""

from __future__ import annotations

import torch
from torch import Tensor

STEPS = 101


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
