"""What only training has: the discriminator (Cackowski 2023, section 2.3)."""

from __future__ import annotations

from torch import Tensor, nn


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
