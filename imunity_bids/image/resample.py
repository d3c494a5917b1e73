"""Move a volume between grids by its affines; trilinear, in torch."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def resample(
    data: np.ndarray, affine: np.ndarray, shape: tuple[int, ...], target_affine: np.ndarray, supersample: int = 1
) -> np.ndarray:
    """`data` (X, Y, Z) with voxel -> mm `affine` on the grid (`shape`, `target_affine`); zero outside.

    With `supersample` n every target voxel is the mean of n³ points inside it: what a coarse grid needs to be free of
    aliasing, at any angle between the two.
    """
    to_source = torch.from_numpy(np.linalg.inv(affine) @ target_affine)
    size = torch.tensor(data.shape, dtype=torch.float64)
    source = torch.from_numpy(np.ascontiguousarray(data, dtype=np.float32))[None, None]
    steps = (np.arange(supersample) + 0.5) / supersample - 0.5
    out = torch.zeros(shape)
    for offset in itertools.product(steps, repeat=3):
        out += F.grid_sample(source, _grid(to_source, size, shape, offset), align_corners=True)[0, 0]
    return (out / supersample**3).numpy()


def _grid(to_source: Tensor, size: Tensor, shape: tuple[int, ...], offset: tuple[float, ...]) -> Tensor:
    """Sampling positions for `grid_sample` (1, X, Y, Z, 3), in its order and its units of -1 to 1."""
    axes = [torch.arange(n, dtype=torch.float64) + o for n, o in zip(shape, offset, strict=True)]
    scale = 2 / (size - 1).clamp(min=1)
    position = []
    for row in range(3):
        x, y, z = (to_source[row, column] * axes[column] * scale[row] for column in range(3))
        shift = to_source[row, 3] * scale[row] - 1
        position.append(((x + shift)[:, None, None] + y[:, None] + z).float())
    return torch.stack(position[::-1], dim=-1)[None]


def isotropic_grid(
    shape: tuple[int, ...], affine: np.ndarray, spacing_mm: float, multiple: int
) -> tuple[tuple[int, int, int], np.ndarray]:
    """The RAS grid of `spacing_mm` that covers a volume, each axis a multiple of `multiple`: (shape, affine)."""
    corners = np.array(list(itertools.product(*[(0, n - 1) for n in shape])))
    world = corners @ affine[:3, :3].T + affine[:3, 3]
    low, high = world.min(axis=0), world.max(axis=0)
    voxels = np.ceil((high - low) / spacing_mm).astype(int) + 1
    voxels = -(-voxels // multiple) * multiple
    target = np.diag([spacing_mm] * 3 + [1.0])
    target[:3, 3] = (low + high) / 2 - spacing_mm * (voxels - 1) / 2
    return tuple(int(n) for n in voxels), target
