"""Contrasts that scanners have, for slices (B, 1, H, W) in [0, 1].

The paper's γ, random monotone curves, simulated sequences, and what a scanner adds: bias field, blur, noise. White
matter of a white-striped brain stays at 0.7 whatever the scanner, so our own curves, γ among them, are anchored there;
the paper's γ is anchored at the end of the range, 1, and computed for every pixel.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from imunity_bids.image.white_stripe import WHITE_MATTER
from imunity_bids.models.histogram import HistogramNet
from imunity_bids.models.imunity import DARKEST, apply_curves
from imunity_bids.models.quantiles import match
from imunity_bids.simulation.protocols import draw_protocols, signals

KNOTS = 24
GAMMA = (0.5, 1.5)


def identity_curves(count: int) -> Tensor:
    """Curves (count, KNOTS, 1, 1) that change nothing."""
    return _positions()[None, :, None, None].expand(count, -1, -1, -1)


def draw_gamma(count: int, g: torch.Generator) -> Tensor:
    """The paper's γ, uniform between 0.5 and 1.5 (section 2.2.1): (count, 1)."""
    return GAMMA[0] + (GAMMA[1] - GAMMA[0]) * torch.rand(count, 1, generator=g)


def gamma_corrected(image: Tensor, gamma: Tensor) -> Tensor:
    """I^γ for every pixel of (B, 1, H, W), γ (B, 1), the range being 1 (section 2.2.1); the background stays 0."""
    return image.pow(gamma[..., None, None]).clamp(DARKEST, 1) * (image > 0)


def gamma_curves(count: int, g: torch.Generator) -> Tensor:
    """Curves (count, KNOTS, 1, 1) of 0.7 · (I / 0.7)^γ: a γ of our own, which leaves white matter where it is.

    Straight lines join the knots, so that near 0 a γ below 1 brightens less than the formula.
    """
    return (WHITE_MATTER * (_positions() / WHITE_MATTER) ** draw_gamma(count, g))[..., None, None]


def random_curves(count: int, g: torch.Generator, strength: float = 0.3) -> Tensor:
    """Monotone curves through (0, 0) and (0.7, 0.7) with random slopes, log-normal with σ = `strength`."""
    slopes = (strength * torch.randn(count, 5, generator=g)).exp()
    slopes = F.interpolate(slopes[:, None], size=KNOTS - 1, mode="linear", align_corners=True)[:, 0]
    values = F.pad(slopes.cumsum(dim=1), (1, 0))
    here = WHITE_MATTER * (KNOTS - 1)
    left, share = int(here), here - int(here)
    at_white = values[:, left] * (1 - share) + values[:, left + 1] * share
    return (values * (WHITE_MATTER / at_white)[:, None])[..., None, None]


def sequence_curves(tissue_means: Tensor, g: torch.Generator, uneven: float) -> Tensor:
    """Curves (count, KNOTS, 3, 3) that turn tissue means of a brain into those of a random SPGR or MPRAGE sequence.

    Parameters
    ----------
    tissue_means
        Intensities of CSF and gray matter in the brain, (count, 2), white matter being at 0.7.
    uneven
        Largest standard deviation of the transmit field, which varies the flip angle within the slice.
    """
    count = len(tissue_means)
    protocols = draw_protocols(count, g)
    field = 1 + uneven * torch.rand(count, 1, 1, 1, generator=g) * torch.randn(count, 1, 3, 3, generator=g)
    signal = signals(protocols, field.clamp(0.6, 1.4)[:, 0])
    levels = WHITE_MATTER * signal / signal[:, 2:]  # N4 and white stripe bring white matter to 0.7 everywhere
    zero = torch.zeros_like(levels[:, :1])
    slope = (levels[:, 2:] - levels[:, 1:2]) / (WHITE_MATTER - tissue_means[:, 1, None, None, None]).clamp(min=0.05)
    top = levels[:, 2:] + (1 - WHITE_MATTER) * slope.clamp(0.3, 2)
    start = torch.tensor([0.0, WHITE_MATTER, 1.0]).expand(count, 3)
    at = torch.cat([start[:, :1], tissue_means, start[:, 1:]], dim=1)[..., None, None]
    return _interpolate(at, torch.cat([zero, levels, top], dim=1))


def _interpolate(at: Tensor, values: Tensor) -> Tensor:
    """Piecewise-linear functions through (at, values), (B, P, 1, 1) and (B, P, h, w): (B, KNOTS, h, w)."""
    positions = _positions()[None, :, None, None]
    out = torch.zeros(len(at), KNOTS, *values.shape[2:])
    for left, right in zip(range(at.shape[1] - 1), range(1, at.shape[1]), strict=True):
        share = (positions - at[:, left : left + 1]) / (at[:, right : right + 1] - at[:, left : left + 1])
        piece = torch.lerp(values[:, left : left + 1], values[:, right : right + 1], share)
        inside = (share >= 0) if left == 0 else (share > 0)
        out = torch.where(inside.expand_as(out), piece, out)
    return out


def recolour(image: Tensor, curves: Tensor) -> Tensor:
    """Apply one curve per image, or a coarse map of curves; the brain stays above 0, the background 0."""
    return apply_curves(curves, image).clamp(DARKEST, 1) * (image > 0)


def prematch(image: Tensor, own: Tensor, reference: Tensor, network: HistogramNet | None = None) -> Tensor:
    """What inference does to S1: its histogram becomes that of ANOTHER brain in the target contrast.

    With a histogram network it becomes what the network makes of both.

    Parameters
    ----------
    image
        S1 in its source contrast, (B, 1, H, W).
    own, reference
        Quantiles of S1's brain in that contrast, and of the reference's brain in the target contrast, (B, Q).
    """
    if network is not None:
        with torch.no_grad():
            reference = network(own, reference)[0]
    matched = match(image.flatten(1), own, reference).reshape(image.shape)
    return matched.clamp(DARKEST, 1) * (image > 0)


def quantiles_after(quantiles: Tensor, curves: Tensor) -> Tensor:
    """Quantiles (B, Q) after the mean of each image's curves (B, K, h, w); sorted, since a curve may fall a little."""
    mean = curves.mean(dim=(2, 3), keepdim=True)
    return apply_curves(mean, quantiles[:, None, None]).flatten(1).clamp(DARKEST, 1).sort(dim=1).values


def scanner(image: Tensor, g: torch.Generator) -> Tensor:
    """What a scanner adds to S1 besides contrast: rest of a bias field, blur, noise; each in half of the images."""
    mask = image > 0
    count = len(image)
    field = F.interpolate(torch.randn(count, 1, 3, 3, generator=g), size=image.shape[-2:], mode="bicubic")
    out = image * (1 + 0.04 * field * _half(count, g))
    weight = torch.rand(count, 1, 1, 1, generator=g) * _half(count, g)
    out = torch.lerp(out, F.avg_pool2d(out, 3, 1, 1), weight)
    out = out + 0.02 * torch.rand(count, 1, 1, 1, generator=g) * _half(count, g) * torch.randn(out.shape, generator=g)
    return out.clamp(DARKEST, 1) * mask


def _half(count: int, g: torch.Generator) -> Tensor:
    return (torch.rand(count, 1, 1, 1, generator=g) < 0.5).float()


def _positions() -> Tensor:
    return torch.linspace(0, 1, KNOTS)
