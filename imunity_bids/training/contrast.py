"""Contrasts that scanners have: the paper's γ, random monotone curves, bias field, blur, noise; (B, 1, H, W) in [0, 1].

White matter of a white-striped brain stays at 0.7 whatever the scanner, so a curve may be anchored there; the paper's γ
is anchored at the range's end, 1.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from imunity_bids.image.white_stripe import WHITE_MATTER
from imunity_bids.models.imunity import apply_curves

KNOTS = 12
GAMMA = (0.5, 1.5)


def gamma_curves(count: int, g: torch.Generator, anchor: float = 1.0) -> Tensor:
    """Curves (count, KNOTS, 1, 1) of anchor · (I / anchor)^γ, γ uniform (section 2.2.1)."""
    gamma = GAMMA[0] + (GAMMA[1] - GAMMA[0]) * torch.rand(count, 1, generator=g)
    return (anchor * (_positions() / anchor) ** gamma)[..., None, None]


def random_curves(count: int, g: torch.Generator, strength: float = 0.5) -> Tensor:
    """Monotone curves through (0, 0) and (0.7, 0.7) with random slopes, log-normal with σ = `strength`."""
    slopes = (strength * torch.randn(count, 5, generator=g)).exp()
    slopes = F.interpolate(slopes[:, None], size=KNOTS - 1, mode="linear", align_corners=True)[:, 0]
    values = F.pad(slopes.cumsum(dim=1), (1, 0))
    here = WHITE_MATTER * (KNOTS - 1)
    left, share = int(here), here - int(here)
    at_white = values[:, left] * (1 - share) + values[:, left + 1] * share
    return (values * (WHITE_MATTER / at_white)[:, None])[..., None, None]


def recolour(image: Tensor, curves: Tensor) -> Tensor:
    """Apply one curve per image; the background stays 0."""
    full = curves.expand(-1, -1, 2, 2)
    return apply_curves(full, image).clamp(0, 1) * (image > 0)


def scanner(image: Tensor, g: torch.Generator) -> Tensor:
    """What a scanner adds to S1 besides contrast: rest of a bias field, blur, noise; each in half of the images."""
    mask = image > 0
    count = len(image)
    field = F.interpolate(torch.randn(count, 1, 3, 3, generator=g), size=image.shape[-2:], mode="bicubic")
    out = image * (1 + 0.04 * field * _half(count, g))
    weight = torch.rand(count, 1, 1, 1, generator=g) * _half(count, g)
    out = torch.lerp(out, F.avg_pool2d(out, 3, 1, 1), weight)
    out = out + 0.02 * torch.rand(count, 1, 1, 1, generator=g) * _half(count, g) * torch.randn(out.shape, generator=g)
    return out.clamp(0.004, 1) * mask


def _half(count: int, g: torch.Generator) -> Tensor:
    return (torch.rand(count, 1, 1, 1, generator=g) < 0.5).float()


def _positions() -> Tensor:
    return torch.linspace(0, 1, KNOTS)
