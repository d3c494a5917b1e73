"""Networks to unlearn with: the paper's VGG-like encoder for volumes, its 2D U-Net, and heads for their features.

The volumes' encoder normalises over the batch, as the paper's does: what differs between persons is small beside what
all brains share, and without it nothing was learned in the first hundreds of steps. The U-Net normalises over groups.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FEATURES = 32  # of tables
SLOPE = 0.2  # below zero, of features and of classifiers that learn fast: rectified ones die, and then tell nothing
GRID = 2  # cells per axis that the last maps are averaged over: where something is still matters
COARSE = 4  # the same, of a U-Net's maps for a probe


class VggEncoder(nn.Module):
    """Volumes (B, 1, X, Y, Z) to features (B, features): the first fully connected layer, Q_repr.

    Blocks of two convolutions and a halving, as VGG-16 has them (section 2.4); the first one halves by its stride,
    which keeps a volume of 3 mm within a second per batch on a processor.

    Parameters
    ----------
    width
        Channels of the first block; each block has twice those of the one before.
    blocks
        Halvings; the volume has to have 2^blocks voxels per axis at least.
    features
        Length of Q_repr. Below zero they go on, less steeply: confusion drove rectified ones to zero, all but one to
        three of 32, and at times all.
    """

    def __init__(self, width: int = 8, blocks: int = 4, features: int = 8):
        super().__init__()
        self.blocks = nn.Sequential()
        channels = 1
        for number in range(blocks):
            wide = width * 2**number
            self.blocks.append(_convolution(3, channels, wide, stride=2))
            if number:
                self.blocks.append(_convolution(3, wide, wide))
            channels = wide
        self.project = nn.Sequential(
            nn.Linear(channels * GRID**3, features), nn.BatchNorm1d(features), nn.LeakyReLU(SLOPE)
        )
        self.to(memory_format=torch.channels_last_3d)  # a quarter faster on processors

    def forward(self, volumes: Tensor) -> Tensor:
        """Q_repr."""
        maps = self.blocks(volumes.contiguous(memory_format=torch.channels_last_3d))
        return self.project(F.adaptive_avg_pool3d(maps, GRID).flatten(1))


class TableEncoder(nn.Module):
    """Rows of a table (B, inputs) to features (B, features)."""

    def __init__(self, inputs: int, width: int = 64, features: int = FEATURES):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(0.3), nn.Linear(width, features), nn.ReLU()
        )

    def forward(self, rows: Tensor) -> Tensor:
        """Q_repr."""
        return self.layers(rows)


class Taps(NamedTuple):
    """Where Fig. 5 attaches classifiers to a U-Net."""

    last: Tensor  # A: before the label predictor, (B, C, H, W)
    bottleneck: Tensor  # B, (B, C', h, w)

    def vectors(self) -> Tensor:
        """What a probe looks at: A, as means over a coarse grid and spread of each channel, (B, 17 C)."""
        return coarse(self.last)


def coarse(maps: Tensor) -> Tensor:
    """Means over a coarse grid and spread of each channel of maps (B, C, H, W), (B, C (COARSE² + 1))."""
    return torch.cat([F.adaptive_avg_pool2d(maps, COARSE).flatten(1), maps.std(dim=(2, 3))], dim=1)


class UNet(nn.Module):
    """Slices (B, 1, H, W) to `Taps`; H and W are padded to what the halvings need and cut again.

    Parameters
    ----------
    width
        Channels at full resolution.
    depth
        Halvings.
    """

    def __init__(self, width: int = 12, depth: int = 3):
        super().__init__()
        self.depth = depth
        widths = [width * 2**level for level in range(depth + 1)]
        self.down = nn.ModuleList(_double(before, after) for before, after in zip([1, *widths], widths, strict=False))
        self.up = nn.ModuleList(_double(low + high, high) for high, low in pairwise(widths))

    def forward(self, slices: Tensor) -> Taps:
        """The maps at A and B."""
        height, width = slices.shape[-2:]
        step = 2**self.depth
        x, skips = F.pad(slices, (0, -width % step, 0, -height % step)), []
        for block in self.down[:-1]:
            skips.append(block(x))
            x = F.max_pool2d(skips[-1], 2)
        bottleneck = x = self.down[-1](x)
        for block, skip in zip(reversed(self.up), reversed(skips), strict=True):
            x = block(torch.cat([F.interpolate(x, scale_factor=2.0), skip], dim=1))
        return Taps(x[..., :height, :width], bottleneck)


class TissueHead(nn.Module):
    """The label predictor of the U-Net: one 1×1 convolution at A, to logits (B, classes, H, W)."""

    def __init__(self, channels: int, classes: int):
        super().__init__()
        self.convolution = nn.Conv2d(channels, classes, 1)

    def forward(self, taps: Taps) -> Tensor:
        """Logits."""
        return self.convolution(taps.last)


class DenseHead(nn.Sequential):
    """Features (B, …), `inputs` numbers each, to logits or values (B, outputs) by one hidden layer."""

    def __init__(self, inputs: int, outputs: int, hidden: int = 128):
        super().__init__(nn.Flatten(), nn.Linear(inputs, hidden), nn.LeakyReLU(SLOPE), nn.Linear(hidden, outputs))


class SiteHead(nn.Sequential):
    """Classifier of a nuisance on feature vectors (B, features), which it standardises first: logits (B, classes)."""

    def __init__(self, features: int, classes: int, hidden: int = 64):
        super().__init__(nn.BatchNorm1d(features, affine=False), DenseHead(features, classes, hidden))


class TapHead(nn.Module):
    """Classifier of a nuisance at A, at B or at both of a U-Net (Fig. 5): logits (B, classes).

    Each place has a downsampling branch D; their fully connected layers are joined.

    Parameters
    ----------
    places
        "A", "B" or "AB".
    last, bottleneck
        Channels there.
    """

    def __init__(self, places: str, last: int, bottleneck: int, classes: int, hidden: int = 32):
        super().__init__()
        channels = {"A": last, "B": bottleneck}
        self.branches = nn.ModuleDict({place: _Branch(channels[place], hidden) for place in places})
        self.layers = nn.Sequential(nn.LeakyReLU(SLOPE), nn.Linear(hidden * len(places), classes))

    def forward(self, taps: Taps) -> Tensor:
        """Logits."""
        maps = {"A": taps.last, "B": taps.bottleneck}
        return self.layers(torch.cat([branch(maps[place]) for place, branch in self.branches.items()], dim=1))


class _Branch(nn.Module):
    """D of Fig. 5, maps (B, channels, H, W) to (B, hidden): convolutions that halve twice, and beside them what a fresh
    classifier would look at first, means over a coarse grid and the spread of each channel."""

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.standardise = nn.BatchNorm2d(channels, affine=False)
        self.convolutions = nn.Sequential(
            nn.Conv2d(channels, 16, 3, stride=2, padding=1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(16, 16, 3, stride=2, padding=1),
            nn.LeakyReLU(SLOPE),
            nn.AdaptiveAvgPool2d(GRID),
            nn.Flatten(),
        )
        self.spread = nn.BatchNorm1d(channels * (COARSE**2 + 1), affine=False)
        self.project = nn.Linear(16 * GRID**2 + channels * (COARSE**2 + 1), hidden)

    def forward(self, maps: Tensor) -> Tensor:
        maps = self.standardise(maps)
        return self.project(torch.cat([self.convolutions(maps), self.spread(coarse(maps))], dim=1))


def _double(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(_convolution(2, before, after), _convolution(2, after, after))


def _convolution(dimensions: int, before: int, after: int, stride: int = 1) -> nn.Sequential:
    if dimensions == 3:
        return nn.Sequential(nn.Conv3d(before, after, 3, stride, padding=1), nn.BatchNorm3d(after), nn.ReLU())
    groups = nn.GroupNorm(max(1, after // 4), after)
    return nn.Sequential(nn.Conv2d(before, after, 3, stride, padding=1), groups, nn.ReLU())
