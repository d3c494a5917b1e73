"""Our generator: ImUnity's two encoders, and a decoder of intensity curves that cannot invent anatomy.

As in the paper (Cackowski 2023, section 2.2) one network per axis takes the anatomy of a slice and the contrast of
another scan. What differs: the contrast encoder sees several slices and the quantiles of a volume, and encodes the scan
itself as well as the reference; from both codes comes ONE curve for the whole brain, which starts as histogram
matching; from the anatomy code, given both contrasts, comes a map of the error to expect. Networks see every second
voxel along each axis; the curve is applied to all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imunity_bids.models.quantiles import STEPS, match

CENTRE, SPREAD = 0.55, 0.15  # of the intensities in a brain
DARKEST = 0.004  # inside the brain, so that the brain can be told from the background
COARSE = 2  # the networks see every so many voxels
QUARTER = 4  # curves of error lie at every so many of these
RIM = 4  # of these slices at each end of a brain show too little of it
CODE_STEP = 2  # and the contrast encoder every so many of these in each slice
CHANGE = 0.1  # scale of what the network adds to histogram matching
LEAST_ERROR = 0.002  # added to errors before their logarithm is taken
TYPICAL_ERROR = 0.03
MANY = 4.0  # brains in a reference that leave little of single persons in it; more are never seen in training
PLACES = 3  # channels that say where in the brain's box a pixel lies
LOG_VARIANCE_START = -10.0
HEAD_STD = 0.002


@dataclass(frozen=True)
class Architecture:
    """What must be known to rebuild a generator."""

    width: int = 24  # of the first layer
    depth: int = 4  # halvings of the anatomy encoder
    code: int = 64  # channels of each latent code
    bins: int = 8  # of intensity, that the contrast encoder sees
    knots: int = 8  # of the curves of error
    hidden: int = 256  # of the curve's dense layers

    @property
    def multiple(self) -> int:
        """Slices are padded to a multiple of this many pixels."""
        return 2**self.depth

    def to_dict(self) -> dict[str, Any]:
        """For the bundle's JSON."""
        return asdict(self)


class Code(NamedTuple):
    """Mean and log-variance of a latent code, (B, C, …)."""

    mean: Tensor
    log_variance: Tensor

    def sample(self) -> Tensor:
        """Fresh noise in training (reparametrisation)."""
        return self.mean + torch.randn_like(self.mean) * (0.5 * self.log_variance).exp()

    def kl(self) -> Tensor:
        """Mean divergence from the standard normal distribution (equation 5)."""
        return 0.5 * (self.mean**2 + self.log_variance.exp() - 1 - self.log_variance).mean()


class Contrast(NamedTuple):
    """What is known of the contrast of a scan, or of several that were averaged."""

    code: Tensor  # (B, C)
    quantiles: Tensor  # (B, Q)
    brains: Tensor  # that were averaged, (B, 1) float


def one_scan(code: Tensor, quantiles: Tensor) -> Contrast:
    """Contrast of single scans: codes (B, C) and quantiles (B, Q)."""
    return Contrast(code, quantiles, torch.ones_like(quantiles[:, :1]))


def box_places(first: Sequence[int], last: Sequence[int], sizes: Sequence[int]) -> list[Tensor]:
    """Where the voxels of a volume lie in the brain's box, from -1 to 1 inside it: (X,), (Y,), (Z,).

    The first axis goes from the middle to either side: left and right are alike.
    """
    places = []
    for low, high, size in zip(first, last, sizes, strict=True):
        half = max((high - low) / 2, 1)
        places.append((torch.arange(size, dtype=torch.float32) - (low + high) / 2) / half)
    places[0] = 2 * places[0].abs() - 1
    return places


def slice_places(places: list[Tensor], axis: int, number: int) -> Tensor:
    """Of the pixels of one slice along an axis, (3, H, W), from `box_places`."""
    rest = [place for other, place in enumerate(places) if other != axis]
    size = (len(rest[0]), len(rest[1]))
    along = places[axis][number].expand(size)
    plane = [rest[0][:, None].expand(size), rest[1].expand(size)]
    return torch.stack([along, *plane])


def soft_bins(values: Tensor, count: int) -> Tensor:
    """(B, 1, …) in [0, 1] -> (B, count, …): hat functions around evenly spaced intensities; they sum to 1."""
    centres = torch.linspace(0, 1, count, device=values.device).reshape(-1, *[1] * (values.dim() - 2))
    return (1 - (values - centres).abs() * (count - 1)).clamp(min=0)


def convolutions(widths: list[int]) -> nn.Sequential:
    """3 × 3, stride 2, ReLU, no normalisation (as in the paper)."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class ContrastEncoder(nn.Module):
    """Slices and quantiles of a volume -> one code; three dense layers "to reduce spatial information"."""

    def __init__(self, architecture: Architecture):
        super().__init__()
        self.bins = architecture.bins
        width, hidden = architecture.width, 128
        self.features = convolutions([architecture.bins + PLACES, width, 2 * width, 64])
        sizes = (64 + STEPS, hidden, hidden)
        dense = [part for i, o in pairwise(sizes) for part in (nn.Linear(i, o), nn.ReLU(inplace=True))]
        self.dense = nn.Sequential(*dense, nn.Linear(hidden, 2 * architecture.code))

    def forward(self, slices: Tensor, places: Tensor, quantiles: Tensor) -> Code:
        """Slices (B, S, H, W), where their pixels are (B, S, 3, H, W), and quantiles (B, Q) -> Code of (B, C)."""
        image = slices.flatten(0, 1)[:, None]
        inside = image > 0
        seen = torch.cat([soft_bins(image, self.bins), places.flatten(0, 1)], dim=1) * inside
        features = self.features(seen.contiguous(memory_format=torch.channels_last))
        brain = F.adaptive_avg_pool2d(inside.float(), features.shape[-2:])
        batch = len(slices)
        total = (features * brain).sum(dim=(2, 3)).unflatten(0, (batch, -1)).sum(dim=1)
        pooled = total / brain.sum(dim=(1, 2, 3)).unflatten(0, (batch, -1)).sum(dim=1, keepdim=True).clamp(min=1e-3)
        return Code(*self.dense(torch.cat([pooled, (quantiles - CENTRE) / SPREAD], dim=1)).chunk(2, dim=1))


class GlobalCurve(nn.Module):
    """What the quantiles of a brain would be on the reference's scanner.

    Plain matching gives a brain the reference's histogram, and with it the volumes of another person's tissues. The
    network starts from that and learns what to change, from both contrasts: the less, the more brains the reference is
    the mean of.
    """

    def __init__(self, architecture: Architecture):
        super().__init__()
        width = architecture.hidden
        sizes = (2 * (STEPS + architecture.code) + 1, width, width, width)
        hidden = [part for i, o in pairwise(sizes) for part in (nn.Linear(i, o), nn.GELU())]
        self.layers = nn.Sequential(*hidden, nn.Linear(width, STEPS))

    def forward(self, own: Contrast, wanted: Contrast) -> Tensor:
        """Quantiles (B, Q), in order, in [0, 1]."""
        seen = [(contrast.quantiles - CENTRE) / SPREAD for contrast in (own, wanted)]
        unsure = 1 / wanted.brains.clamp(max=MANY)
        change = self.layers(torch.cat([*seen, own.code, wanted.code, unsure], dim=1))
        return (wanted.quantiles + CHANGE * change).cummax(dim=1).values.clamp(0, 1)


def after_curve(values: Tensor, own: Tensor, aims: Tensor) -> Tensor:
    """Intensities (B, N) of brains with quantiles `own` (B, Q) after the curves that bring these to `aims` (B, Q)."""
    return match(values, own, aims).clamp(DARKEST, 1)


class AnatomyEncoder(nn.Module):
    """A slice, before and after the curve -> a map of codes that keeps space."""

    def __init__(self, architecture: Architecture):
        super().__init__()
        widths = [min(architecture.width * 2**i, 128) for i in range(architecture.depth)]
        self.features = convolutions([3 + PLACES, *widths])
        self.last = nn.Conv2d(widths[-1], 2 * architecture.code, 3, padding=1)

    def forward(self, image: Tensor, curved: Tensor, places: Tensor) -> Code:
        """(B, 1, H, W) twice and (B, 3, H, W) -> Code of (B, C, H/2^depth, W/2^depth)."""
        inside = (image > 0).float()
        seen = torch.cat([(image - CENTRE) / SPREAD, (curved - CENTRE) / SPREAD, places, torch.ones_like(image)], dim=1)
        features = self.features((seen * inside).contiguous(memory_format=torch.channels_last))
        return Code(*self.last(features).chunk(2, dim=1))


def upsampling(inputs: int, outputs: int) -> nn.Sequential:
    """Twice the size, ReLU."""
    return nn.Sequential(
        nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1), nn.ReLU(inplace=True)
    )


class ErrorCurves(nn.Module):
    """Codes -> at a quarter of the resolution a curve per pixel: the error's logarithm by intensity."""

    def __init__(self, architecture: Architecture):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3 * architecture.code, 128, 3, padding=1),
            nn.ReLU(inplace=True),
            *(upsampling(128, 96), upsampling(96, 64)),
            *(upsampling(64, 64) for _ in range(architecture.depth - 4)),
        )
        self.head = nn.Conv2d(64, architecture.knots, 3, padding=1)

    def forward(self, anatomy: Tensor, own: Tensor, wanted: Tensor) -> Tensor:
        """Codes (B, C, h, w), (B, C), (B, C) -> log error at the knots, (B, K, 4h, 4w)."""
        size = anatomy.shape[-2:]
        contrasts = [code[..., None, None].expand(len(anatomy), -1, *size) for code in (own, wanted)]
        return self.head(self.layers(torch.cat([anatomy, *contrasts], dim=1)))


def look_up(curves: Tensor, image: Tensor) -> Tensor:
    """Values of curves (B, K, …) at the intensities of (B, 1, …), the knots dividing [0, 1] evenly."""
    knots = curves.shape[1]
    position = image.clamp(0, 1) * (knots - 1)
    left = position.floor().clamp(max=knots - 2)
    index, share = left.long(), position - left
    return torch.lerp(curves.gather(1, index), curves.gather(1, index + 1), share)


def anchored(maps: Tensor, factor: int, size: Sequence[int]) -> Tensor:
    """Maps (B, C, …) at every `factor`-th pixel, the first at 0 -> at all of `size` pixels, linear; held at the end.

    Strided convolutions, and every second voxel of a volume, lie so; interpolation that takes a pixel for the middle
    of a block would shift them.
    """
    sizes = [factor * (n - 1) + 1 for n in maps.shape[2:]]
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(size)]
    fine = F.interpolate(maps, size=sizes, mode=mode, align_corners=True)
    beyond = [(0, max(wanted - n, 0)) for wanted, n in zip(size, sizes, strict=True)]
    fine = F.pad(fine, [side for both in reversed(beyond) for side in both], mode="replicate")
    return fine[(..., *(slice(n) for n in size))]


class Result(NamedTuple):
    """Slices (B, 1, H, W)."""

    harmonized: Tensor
    log_error: Tensor  # logarithm of the absolute error to expect + `LEAST_ERROR`
    anatomy: Code


class Generator(nn.Module):
    """Anatomy of a slice, contrast of another scan -> the slice with that contrast, and the error to expect."""

    def __init__(self, architecture: Architecture):
        super().__init__()
        self.architecture = architecture
        self.contrast = ContrastEncoder(architecture)
        self.curve = GlobalCurve(architecture)
        self.anatomy = AnatomyEncoder(architecture)
        self.error = ErrorCurves(architecture)
        _initialise(self)

    def error_map(
        self, image: Tensor, curved: Tensor, places: Tensor, own: Tensor, wanted: Tensor
    ) -> tuple[Tensor, Code]:
        """What `forward` takes -> curves of the log error, (B, K, H/4, W/4), and the anatomy codes."""
        anatomy = self.anatomy(image, curved, places)
        code = anatomy.sample() if self.training else anatomy.mean
        return self.error(code, own, wanted).float(), anatomy

    def forward(self, image: Tensor, curved: Tensor, places: Tensor, own: Tensor, wanted: Tensor) -> Result:
        """Slices before and after the curve, (B, 1, H, W), where their pixels are, (B, 3, H, W), and codes (B, C)."""
        error, anatomy = self.error_map(image, curved, places, own, wanted)
        return Result(curved, look_up(anchored(error, QUARTER, image.shape[-2:]), curved), anatomy)


@torch.no_grad()
def start_convolutions(generator: nn.Module, codes: Sequence[nn.Module]) -> None:
    """He for every convolution: with PyTorch's default the signal shrinks layer by layer and the codes see no gradient.

    `codes` are the layers that give means and log-variances; these start low: codes are about 0.2 large, and with more
    noise than 0.01 they drown for thousands of steps.
    """
    for layer in generator.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    for last in codes:
        half = len(last.bias) // 2
        last.bias[half:] = LOG_VARIANCE_START
        last.weight[half:] *= 0.1


@torch.no_grad()
def _initialise(generator: Generator) -> None:
    """The curve starts as matching, errors at the usual one."""
    start_convolutions(generator, [generator.anatomy.last, generator.contrast.dense[-1]])
    nn.init.normal_(generator.curve.layers[-1].weight, std=1e-3)
    nn.init.zeros_(generator.curve.layers[-1].bias)
    nn.init.normal_(generator.error.head.weight, std=HEAD_STD)
    generator.error.head.bias.fill_(math.log(TYPICAL_ERROR))
