"""Brain extraction network: a small 3D U-Net that sees 2 mm voxels and computes at 4 mm.

The image enters through a space-to-depth step (2×2×2 voxels become 8 channels) and the answer leaves through its
inverse, so nothing is lost to pooling and the costly full-resolution layers disappear: one 2 mm head is about a
quarter of the work of a plain U-Net of the same depth. The design follows SynthStrip (Hoopes et al. 2022,
doi:10.1016/j.neuroimage.2022.119474) in what it learns from, not in its layers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SPACING_MM = 2.0
FIELD = (96, 112, 96)  # voxels that the network is trained on, RAS
NECK_MM = 12  # by so much the middle of that field lies below the middle of the brain


def space_to_depth(volume: Tensor) -> Tensor:
    """(B, C, 2X, 2Y, 2Z) -> (B, 8C, X, Y, Z)."""
    b, c, x, y, z = volume.shape
    cells = volume.reshape(b, c, x // 2, 2, y // 2, 2, z // 2, 2)
    return cells.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(b, 8 * c, x // 2, y // 2, z // 2)


def depth_to_space(volume: Tensor) -> Tensor:
    """(B, 8C, X, Y, Z) -> (B, C, 2X, 2Y, 2Z), the inverse of `space_to_depth`."""
    b, c, x, y, z = volume.shape
    cells = volume.reshape(b, c // 8, 2, 2, 2, x, y, z)
    return cells.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(b, c // 8, 2 * x, 2 * y, 2 * z)


def _block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, 3, stride, 1, bias=False),
        nn.InstanceNorm3d(outputs, affine=True),
        nn.LeakyReLU(0.1, inplace=True),
    )


class BrainNet(nn.Module):
    """Logit of "inside the skull" for every voxel.

    Parameters
    ----------
    widths
        Channels at 4, 8, 16 and 32 mm.
    """

    def __init__(self, widths: tuple[int, ...] = (24, 48, 96, 128)):
        super().__init__()
        self.widths = tuple(widths)
        inputs = (8, *widths[:-1])
        self.encoder = nn.ModuleList(
            nn.Sequential(_block(i, o, stride=1 if level == 0 else 2), _block(o, o))
            for level, (i, o) in enumerate(zip(inputs, widths, strict=True))
        )
        self.decoder = nn.ModuleList(
            _block(deep + fine, fine) for fine, deep in zip(widths[-2::-1], widths[:0:-1], strict=True)
        )
        self.head = nn.Conv3d(widths[0], 8, 1)

    @property
    def multiple(self) -> int:
        """Every axis of the input must be a multiple of this many voxels."""
        return 2 ** len(self.widths)

    def forward(self, volume: Tensor) -> Tensor:
        """(B, 1, X, Y, Z) intensities in [0, 1] at 2 mm, RAS -> logits of the same shape."""
        features = space_to_depth(volume)
        skips = []
        for stage in self.encoder:
            features = stage(features)
            skips.append(features)
        skips.pop()
        for stage in self.decoder:
            features = F.interpolate(features, scale_factor=2, mode="nearest")
            features = stage(torch.cat([features, skips.pop()], dim=1))
        return depth_to_space(self.head(features))


def normalise(volume: Tensor) -> Tensor:
    """Bring any unit to [0, 1]: 1st and 99.5th percentile of what is not empty; zeros where all is empty."""
    filled = volume[volume != 0]
    if filled.numel() < 100:
        return torch.zeros_like(volume)
    filled = filled[:: max(1, filled.numel() // 200_000)]
    low, high = torch.quantile(filled, torch.tensor([0.01, 0.995]))
    return ((volume - low.clamp(max=0)) / (high - low.clamp(max=0) + 1e-8)).clamp(0, 1)
