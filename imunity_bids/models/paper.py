"""The paper's generator (Cackowski 2023, sections 2.2 and 2.3): paints a slice from two codes.

Sizes are those of the authors' code at width 32 and depth 4: 3,135,361 parameters.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imunity_bids.models.imunity import CENTRE, SPREAD, Code, convolutions, start_convolutions, upsampling


@dataclass(frozen=True)
class PaperArchitecture:
    """What must be known to rebuild a generator."""

    width: int = 32
    depth: int = 4
    pooled_contrast: bool = True  # one vector; else a map, as in the authors' code (ablation)

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


class _Encoder(nn.Module):
    """`depth` convolutions of stride 2, one of stride 1; ReLU, no normalisation but a fixed one of the input."""

    def __init__(self, architecture: PaperArchitecture):
        super().__init__()
        width, depth = architecture.width, architecture.depth
        widths = [width * 2**i for i in range(depth)]
        self.features = convolutions([1, *widths])
        self.last = nn.Conv2d(widths[-1], widths[-1], 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        return self.last(self.features((image - CENTRE) / SPREAD * (image > 0)))


def mean_in_brain(features: Tensor, image: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, C, 1, 1): mean over the positions that see some brain."""
    brain = F.max_pool2d((image > 0).float(), image.shape[-1] // features.shape[-1])
    return (features * brain).sum(dim=(2, 3), keepdim=True) / brain.sum(dim=(2, 3), keepdim=True).clamp(min=1)


class AnatomyEncoder(_Encoder):
    """S1 -> a map of codes that keeps space."""

    def forward(self, image: Tensor) -> Code:
        """(B, 1, H, W) -> Code of (B, C, H/2^depth, W/2^depth)."""
        return Code(*super().forward(image).chunk(2, dim=1))


class ContrastEncoder(_Encoder):
    """S2 -> three dense layers "to reduce spatial information"; pooled over the brain, or kept as a map (ablation)."""

    def __init__(self, architecture: PaperArchitecture):
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


class SynthesisDecoder(nn.Module):
    """The paper's: paints the slice from the codes alone, no skip connection (section 2.2.2)."""

    def __init__(self, architecture: PaperArchitecture):
        super().__init__()
        channels = 2 * architecture.code_channels
        widths = [channels // 2 ** (i + 1) for i in range(architecture.depth)]
        self.layers = nn.Sequential(
            nn.ConvTranspose2d(channels, channels, 3, padding=1),
            nn.ReLU(inplace=True),
            *(upsampling(i, o) for i, o in zip([channels, *widths[:-1]], widths, strict=True)),
            nn.ConvTranspose2d(widths[-1], 1, 3, padding=1),
        )

    def forward(self, code: Tensor, image: Tensor) -> Tensor:
        """Codes (B, 2C, h, w) -> slice (B, 1, H, W) in [0, 1]; `image` only says where the brain is."""
        return self.layers(code).sigmoid() * (image > 0)


class PaperGenerator(nn.Module):
    """Anatomy of one slice, contrast of another -> the first slice with the second's contrast."""

    def __init__(self, architecture: PaperArchitecture):
        super().__init__()
        self.architecture = architecture
        self.anatomy = AnatomyEncoder(architecture)
        self.contrast = ContrastEncoder(architecture)
        self.decoder = SynthesisDecoder(architecture)
        start_convolutions(self, [self.anatomy.last, self.contrast.dense[-1]])

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
