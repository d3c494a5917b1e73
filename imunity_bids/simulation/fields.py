"""Fields of a scanner over the head: transmit field (flip angles) and receive field (gain)."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

WAVES = 4
FLAT_BEYOND = 1.5  # squared distance from the middle, in half widths of the brain


def transmit_field(squared_distance: np.ndarray, excess: float, inside: np.ndarray | None = None) -> np.ndarray:
    """Relative flip angle: largest in the middle of the head, falling with the squared distance, 1 in the mean.

    Parameters
    ----------
    squared_distance
        From the middle, in half widths of the brain: 1 at its rim. Any shape.
    excess
        By how much the flip angle in the middle exceeds that at the rim, relative.
    inside
        Where the mean is taken, bool of the same shape; everywhere where there is none.
    """
    field = 1 + excess * (1 - np.minimum(squared_distance, FLAT_BEYOND))
    return field / (field if inside is None else field[inside]).mean()


def squared_distance_in(mask: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """From the middle of a brain, moved by `shift` voxels (3), in half widths of the brain per axis: (X, Y, Z)."""
    where = np.argwhere(mask)
    centre = where.mean(0) + shift
    half_width = (where.max(0) - where.min(0)) / 2
    grid = np.ogrid[tuple(slice(n) for n in mask.shape)]
    return sum(((g - c) / r) ** 2 for g, c, r in zip(grid, centre, half_width, strict=True))


def receive_field(shape: tuple[int, ...], amplitude: float, rng: np.random.Generator) -> np.ndarray:
    """Smooth positive gain (X, Y, Z) between exp(-amplitude) and exp(amplitude), float32."""
    coarse = rng.standard_normal((4, 4, 4))
    axes = [ndimage.zoom(np.eye(4), (n / 4, 1), order=3, mode="nearest", grid_mode=True) for n in shape]  # splines
    field = np.einsum("xi,yj,zk,ijk->xyz", *axes, coarse, optimize=True)
    return np.exp(amplitude * field / np.abs(field).max()).astype(np.float32)


def smooth_field(position: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sum of some waves at positions (n, 3) from -1 to 1: (n,) float32, about -1 to 1.

    Another form than that of `receive_field`, which judges what is learned on this.
    """
    direction = rng.standard_normal((3, WAVES)).astype(np.float32)
    length = rng.uniform(0.5, 4, WAVES).astype(np.float32)  # radians over half of the brain
    phase = rng.uniform(0, 2 * np.pi, WAVES).astype(np.float32)
    waves = np.cos(position.astype(np.float32) @ (direction / np.linalg.norm(direction, axis=0) * length) + phase)
    field = waves @ (rng.standard_normal(WAVES).astype(np.float32) / length)
    field -= field.mean()
    return field / np.abs(field).max()
