"""What only training has: the discriminator, and heads on the anatomy code (Cackowski 2023, sections 2.2 and 2.3)."""

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


class CodeHead(nn.Module):
    """Site head or biological head on the mean of the anatomy code: flatten, dense 128, ReLU, dense."""

    def __init__(self, code_shape: tuple[int, int, int], outputs: int):
        super().__init__()
        inputs = code_shape[0] * code_shape[1] * code_shape[2]
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(inputs, 128), nn.ReLU(), nn.Linear(128, outputs))

    def forward(self, code: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, outputs) logits, or values for a continuous feature."""
        return self.layers(code)
