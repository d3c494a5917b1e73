"""ImUnity's networks (Cackowski 2023, sections 2.2 and 2.3): generator, discriminator, heads on the latent code.

Sizes are those of the authors' code at width 32 and depth 4: 3,135,361 parameters in the generator.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CENTRE, SPREAD = 0.55, 0.15  # of the intensities in a brain: uncentred, two contrasts look nearly alike to an encoder
DARKEST = 0.004  # inside the brain, so that the brain can be told from the background
HEAD_STD = 0.005
LOG_VARIANCE_START = -10.0  # codes are about 0.2 large: with more noise than 0.01 they drown for thousands of steps


@dataclass(frozen=True)
class Architecture:
    """What must be known to rebuild a generator."""

    decoder: Literal["synthesis", "curves"] = "curves"
    width: int = 32
    depth: int = 4
    pooled_contrast: bool = True
    knots: int = 12  # of the curves
    smooth: int = 1  # curves are averaged over so many positions a side, each four pixels wide
    strength: float = 1.0  # share of what the curves would change that is done
    bins: int = 0  # of the encoders' input; 0: the intensity itself, as in the paper
    prematch: bool = False  # the input's histogram is matched to the reference's before the networks see it

    @property
    def multiple(self) -> int:
        """Slices are padded to a multiple of this many pixels."""
        return 2**self.depth

    @property
    def code_channels(self) -> int:
        """Channels of each code: half of the widest layer, the other half being the log-variance."""
        return self.width * 2 ** (self.depth - 1) // 2

    def to_dict(self) -> dict[str, Any]:
        """For the bundle's JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Architecture:
        """From a bundle's JSON.

        Bundles up to 0.5 also name `monotone`, a variant of the curves that was given up and that none of them has.

        Raises
        ------
        TypeError
            A field is not known, or has a value that no network here can have.
        """
        if fields.get("monotone"):
            raise TypeError("monotone curves are no longer supported")
        return cls(**{name: value for name, value in fields.items() if name != "monotone"})


class Code(NamedTuple):
    """Mean and log-variance of a latent code, (B, C, H/16, W/16), or (B, C, 1, 1) where pooled."""

    mean: Tensor
    log_variance: Tensor

    def sample(self) -> Tensor:
        """Fresh noise in training (reparametrisation)."""
        return self.mean + torch.randn_like(self.mean) * (0.5 * self.log_variance).exp()

    def kl(self) -> Tensor:
        """Mean divergence from the standard normal distribution (equation 5)."""
        return 0.5 * (self.mean**2 + self.log_variance.exp() - 1 - self.log_variance).mean()


class _Encoder(nn.Module):
    """`depth` convolutions of stride 2, one of stride 1; ReLU, no normalisation but a fixed one of the input.

    With `bins`, the input is the share of every pixel in each of so many overlapping intensity bins: a mean over pixels
    is then a histogram, and the code of a contrast is learned in half of the steps.
    """

    def __init__(self, architecture: Architecture):
        super().__init__()
        width, depth, self.bins = architecture.width, architecture.depth, architecture.bins
        widths = [width * 2**i for i in range(depth)]
        layers: list[nn.Module] = []
        for inputs, outputs in zip([self.bins or 1, *widths[:-1]], widths, strict=True):
            layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.ReLU(inplace=True)]
        self.features = nn.Sequential(*layers)
        self.last = nn.Conv2d(widths[-1], widths[-1], 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        seen = soft_bins(image, self.bins) if self.bins else (image - CENTRE) / SPREAD
        return self.last(self.features(seen * (image > 0)))


def mean_in_brain(features: Tensor, image: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, C, 1, 1): mean over the positions that see some brain."""
    brain = F.max_pool2d((image > 0).float(), image.shape[-1] // features.shape[-1])
    return (features * brain).sum(dim=(2, 3), keepdim=True) / brain.sum(dim=(2, 3), keepdim=True).clamp(min=1)


def soft_bins(image: Tensor, count: int) -> Tensor:
    """(B, 1, H, W) in [0, 1] -> (B, count, H, W): hat functions around evenly spaced intensities; they sum to 1."""
    centres = torch.linspace(0, 1, count, device=image.device)[:, None, None]
    return (1 - (image - centres).abs() * (count - 1)).clamp(min=0)


class AnatomyEncoder(_Encoder):
    """S1 -> a map of codes that keeps space."""

    def forward(self, image: Tensor) -> Code:
        """(B, 1, H, W) -> Code of (B, C, H/2^depth, W/2^depth)."""
        return Code(*super().forward(image).chunk(2, dim=1))


class ContrastEncoder(_Encoder):
    """S2 -> three dense layers "to reduce spatial information"; pooled over the brain, or kept as a map (ablation)."""

    def __init__(self, architecture: Architecture):
        super().__init__(architecture)
        channels = 2 * architecture.code_channels
        self.pooled = architecture.pooled_contrast
        dense = [nn.Conv2d(channels, channels, 1) for _ in range(3)]  # dense along channels, at every position
        self.dense = nn.Sequential(dense[0], nn.ReLU(inplace=True), dense[1], nn.ReLU(inplace=True), dense[2])

    def forward(self, image: Tensor) -> Code:
        """(B, 1, H, W) -> Code of (B, C, 1, 1) where pooled."""
        features = F.relu(super().forward(image))
        if self.pooled:
            features = mean_in_brain(features, image)
        return Code(*self.dense(features).chunk(2, dim=1))


def _upsampling(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1), nn.ReLU(inplace=True)
    )


class SynthesisDecoder(nn.Module):
    """The paper's: paints the slice from the codes alone, no skip connection (section 2.2.2)."""

    def __init__(self, architecture: Architecture):
        super().__init__()
        channels = 2 * architecture.code_channels
        widths = [channels // 2 ** (i + 1) for i in range(architecture.depth)]
        self.layers = nn.Sequential(
            nn.ConvTranspose2d(channels, channels, 3, padding=1),
            nn.ReLU(inplace=True),
            *(_upsampling(i, o) for i, o in zip([channels, *widths[:-1]], widths, strict=True)),
            nn.ConvTranspose2d(widths[-1], 1, 3, padding=1),
        )

    def forward(self, code: Tensor, image: Tensor) -> Tensor:
        """Codes (B, 2C, h, w) -> slice (B, 1, H, W) in [0, 1]; `image` only says where the brain is."""
        return self.layers(code).sigmoid() * (image > 0)


class CurvesDecoder(nn.Module):
    """Predicts at a quarter of the resolution a piecewise-linear intensity curve per pixel, applied to the slice.

    It changes contrast and cannot invent anatomy. At the start it is the identity, or nearly.
    """

    def __init__(self, architecture: Architecture):
        super().__init__()
        channels = 2 * architecture.code_channels
        widths = [channels // 2 ** (i + 1) for i in range(architecture.depth - 2)]
        self.knots = architecture.knots
        self.smooth = architecture.smooth
        self.strength = architecture.strength
        self.layers = nn.Sequential(
            nn.ConvTranspose2d(channels, channels, 3, padding=1),
            nn.ReLU(inplace=True),
            *(_upsampling(i, o) for i, o in zip([channels, *widths[:-1]], widths, strict=True)),
        )
        self.head = nn.Conv2d(widths[-1], self.knots, 3, padding=1)

    def curves(self, code: Tensor, image: Tensor) -> Tensor:
        """Values of the curves at knots that divide [0, 1] evenly: (B, K, H/4, W/4)."""
        raw = self.strength * self.head(self.layers(code))
        if self.smooth > 1:
            raw = _mean_over_brain(raw, image, self.smooth)
        return torch.linspace(0, 1, self.knots, device=raw.device)[:, None, None] + raw

    def forward(self, code: Tensor, image: Tensor) -> Tensor:
        """Codes (B, 2C, h, w) and the slice (B, 1, H, W) -> slice in [0, 1]."""
        return apply_curves(self.curves(code, image), image).clamp(0, 1) * (image > 0)


def _mean_over_brain(values: Tensor, image: Tensor, size: int) -> Tensor:
    """Moving average of a coarse map over those of its positions that hold brain; elsewhere over all."""
    brain = F.adaptive_avg_pool2d((image > 0).float(), values.shape[-2:]) + 1e-4
    mean = partial(F.avg_pool2d, kernel_size=size, stride=1, padding=size // 2)
    return mean(values * brain) / mean(brain)


def apply_curves(curves: Tensor, image: Tensor) -> Tensor:
    """Look every pixel of (B, 1, H, W) up in its curve, (B, K, h, w) upsampled bilinearly."""
    knots = curves.shape[1]
    full = F.interpolate(curves, size=image.shape[-2:], mode="bilinear", align_corners=False)
    position = image.clamp(0, 1) * (knots - 1)
    left = position.floor().clamp(max=knots - 2)
    index = left.long()
    share = position - left
    return full.gather(1, index) * (1 - share) + full.gather(1, index + 1) * share


class Generator(nn.Module):
    """Anatomy of one slice, contrast of another -> the first slice with the second's contrast."""

    def __init__(self, architecture: Architecture):
        super().__init__()
        self.architecture = architecture
        self.anatomy = AnatomyEncoder(architecture)
        self.contrast = ContrastEncoder(architecture)
        decoders = {"synthesis": SynthesisDecoder, "curves": CurvesDecoder}
        self.decoder = decoders[architecture.decoder](architecture)
        _initialise(self)

    def decode(self, anatomy: Tensor, contrast: Tensor, image: Tensor) -> Tensor:
        """Codes (B, C, h, w) and (B or 1, C, 1, 1), or a map of any size that is stretched, and the slice -> slice."""
        size = anatomy.shape[-2:]
        if contrast.shape[-2:] not in (size, (1, 1)):
            contrast = F.interpolate(contrast, size=size, mode="bilinear", align_corners=False)
        code = torch.cat([anatomy, contrast.expand(len(anatomy), -1, *size)], dim=1)
        return self.decoder(code, image)

    def forward(self, image: Tensor, contrast: Tensor) -> Tensor:
        """Inference: slices (B, 1, H, W) and one contrast code; means only, so the same input gives the same output."""
        return self.decode(self.anatomy(image).mean, contrast, image)


class Discriminator(nn.Module):
    """Real or generated: a map of logits, each seeing 31 × 31 pixels; 75,457 parameters and 384 running statistics."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs in (1, 64, 64):
            layers += [nn.Conv2d(inputs, 64, 3, stride=2, padding=1), nn.BatchNorm2d(64), nn.LeakyReLU(0.3)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(64, 1, 3, padding=1))

    def forward(self, image: Tensor) -> Tensor:
        """(B, 1, H, W) -> (B, 1, H/8, W/8) logits."""
        return self.layers(image)


class CodeHead(nn.Module):
    """Site head or biological head on the mean of the anatomy code: flatten, dense 128, ReLU, dense."""

    def __init__(self, code_shape: tuple[int, int, int], outputs: int):
        super().__init__()
        inputs = code_shape[0] * code_shape[1] * code_shape[2]
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(inputs, 128), nn.ReLU(), nn.Linear(128, outputs))

    def forward(self, code: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, outputs) logits, or values for a continuous feature."""
        return self.layers(code)


@torch.no_grad()
def _initialise(generator: Generator) -> None:
    """He for every layer: with PyTorch's default the signal shrinks layer by layer and the codes see no gradient.

    Log-variances start low, and the curves near the identity: their deviation from it is about 25 × HEAD_STD.
    """
    for layer in generator.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    for last in (generator.anatomy.last, generator.contrast.dense[-1]):
        last.bias[last.out_channels // 2 :] = LOG_VARIANCE_START
        last.weight[last.out_channels // 2 :] *= 0.1
    if isinstance(generator.decoder, CurvesDecoder):
        nn.init.normal_(generator.decoder.head.weight, std=HEAD_STD)
