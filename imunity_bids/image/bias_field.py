"""The bias field of a brain, told by its white matter.

White matter is one tissue, so what varies smoothly in it is the field. Dawant 1993 (doi:10.1109/42.251128) fits a
smooth surface to points of white matter, Wells 1996 (doi:10.1109/42.511747) finds the points and the field in turns.
Here the template says where white matter may lie (once the brain is registered), and even surroundings say where a
voxel is well inside a tissue.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage
from threadpoolctl import threadpool_limits

from imunity_bids.image.ants_bridge import apply, bias_corrected
from imunity_bids.image.template import Template

OVERLAP = 0.85  # Dice of the masks below which the template does not tell where white matter lies
SMOOTHING = 2.0  # voxels of the template; the affine leaves a few mm
SPACING_MM = 3.0  # between the voxels that are looked at
ORDERS = (1, 2, 3, 4, 5, 6)  # of the cosines, one after the other: what is coarse first
ROUNDS = 2  # of tissue and field in turns, at each order
STIFFNESS = 1e-5  # price of a cosine: times its order to the fourth (bending energy)
MARGIN = 0.05  # of the box of the cosines around the brain, relative
EVEN = 0.4  # variation of surroundings that count, relative to the median of the template's white matter
DOUBT = 0.02  # the template's map is between this and one minus this
CERTAIN = 0.6  # of the template's map, to begin with
LEAST_SPREAD = 0.015  # standard deviation of a tissue's log intensity
OUTLIER = 0.02 / 3  # density of what is of no tissue: one voxel in fifty, over a factor of e³
ENOUGH = 100  # points of white matter
METHODS = ("white-matter", "plain", "none")


@dataclass(frozen=True)
class Unbiased:
    """Image without its field (float32, mean in the mask unchanged), the field, and how it was found."""

    image: np.ndarray
    field: np.ndarray = field(repr=False)  # image = raw / field
    method: str


def unbiased(
    image: nib.Nifti1Image, mask: np.ndarray, white: np.ndarray | None, method: str, seen: np.ndarray | None = None
) -> Unbiased:
    """Take the bias field out of a conformed image (X, Y, Z).

    Parameters
    ----------
    white
        Where the template has white matter on the image's grid, 0 to 1 (`white_map`); None where it does not say.
    method
        One of `METHODS`.
    seen
        Part of the mask (bool) that tells the field, without lesions; None: all of it.

    Raises
    ------
    DataUnusable
        N4 finds no field.
    """
    data = np.asarray(image.dataobj, dtype=np.float32)
    seen = mask if seen is None else seen
    if method == "none":
        return Unbiased(data, np.ones_like(data), "none")
    if method == "white-matter" and white is not None:
        found = white_matter_field(data, mask, white, image.header.get_zooms()[:3], seen)
        if found is not None:
            corrected = data / found
            gain = data[seen].mean() / corrected[seen].mean()
            return Unbiased(corrected * gain, found / gain, "smooth field through white matter")
    corrected = bias_corrected(image, seen)
    ratio = np.divide(data, corrected, out=np.ones_like(data), where=np.abs(corrected) > 1e-6)
    why = "" if method == "plain" else " (the template does not tell where white matter lies)"
    return Unbiased(corrected, ratio, "N4" + why)


def overlaps(mask: np.ndarray, template: Template) -> bool:
    """True where a brain mask (bool) in template space lies so well on the template's that it says where things are."""
    return template.overlap(mask) >= OVERLAP


def white_map(template: Template, image: nib.Nifti1Image, backward: Path) -> np.ndarray:
    """Where the template has white matter on the grid of an image, 0 to 1; `backward` is the ITK transform to it."""
    core = smoothed(template.white_core)
    return apply(core, template.brain, image, backward, "linear").clip(0, 1)


def smoothed(core: np.ndarray) -> np.ndarray:
    """White core (bool) as a map from 0 to 1 that allows for what a linear registration leaves."""
    return ndimage.gaussian_filter(core.astype(np.float32), SMOOTHING)


def white_matter_field(
    data: np.ndarray, mask: np.ndarray, white: np.ndarray, zooms: tuple[float, ...], seen: np.ndarray | None = None
) -> np.ndarray | None:
    """Field (X, Y, Z) float32 through white matter, 1 in its mean there; None where too little of it is found.

    Outside the mask no larger or smaller than inside.

    Parameters
    ----------
    white
        Where white matter may lie, 0 to 1.
    zooms
        Voxel size in mm.
    seen
        Part of the mask (bool) that tells the field; None: all of it.
    """
    seen = mask if seen is None else seen
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    points = _points(data[box], seen[box], white[box], zooms)
    if (points.white > CERTAIN).sum() < ENOUGH:
        return None
    with threadpool_limits(1, "blas"):  # sums in another order would give another field, by 0.2 % of the image
        coefficients = _fit(points, mask[box].shape)
        if coefficients is None:
            return None
        start = [side.start for side in box]
        sides = [
            _cosines(np.arange(n) - s, b, ORDERS[-1])
            for n, s, b in zip(mask.shape, start, mask[box].shape, strict=True)
        ]
        log_field = np.einsum("ijk,xi,yj,zk->xyz", coefficients, *sides, optimize=True)
    inside = log_field[mask]
    return np.exp(np.clip(log_field, inside.min(), inside.max())).astype(np.float32)


def surroundings(volume: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the 3 × 3 × 3 voxels around each of a volume (X, Y, Z)."""
    mean = ndimage.uniform_filter(volume, 3)
    return mean, np.sqrt(np.maximum(ndimage.uniform_filter(volume**2, 3) - mean**2, 0))


@dataclass(frozen=True)
class _Points:
    """Voxels on a coarse grid inside the brain, n of them."""

    where: np.ndarray  # (n, 3), voxels of the box
    level: np.ndarray  # log of the mean of 3 × 3 × 3 voxels
    white: np.ndarray  # what the template says, 0 to 1
    even: np.ndarray  # how even these voxels are, 0 to 1: well inside a tissue, whatever the field


def _points(data: np.ndarray, mask: np.ndarray, white: np.ndarray, zooms: tuple[float, ...]) -> _Points:
    mean, spread = surroundings(np.where(mask, data, 0).astype(np.float32))
    steps = [max(1, round(SPACING_MM / zoom)) for zoom in zooms]
    grid = tuple(slice(step // 2, None, step) for step in steps)
    chosen = mask[grid] & (mean[grid] > 0)
    level = mean[grid][chosen]
    variation = spread[grid][chosen] / level
    map_of_white = np.clip(1.2 * white[grid][chosen], 0, 1)  # smoothing has lowered it everywhere
    usual = variation[map_of_white > 0.8]
    reference = EVEN * float(np.median(usual)) if len(usual) else 1.0
    even = np.exp(-0.5 * (variation / max(reference, 1e-6)) ** 2)
    where = np.argwhere(chosen) * steps + np.array(steps) // 2
    return _Points(where, np.log(level), map_of_white, even)


def _fit(points: _Points, shape: tuple[int, ...]) -> np.ndarray | None:
    """Coefficients (K, K, K) of the cosines of the log field: tissues and field in turns, coarse cosines first."""
    highest = ORDERS[-1]
    orders = np.argwhere(np.ones((highest + 1,) * 3))
    squared = (orders**2).sum(1)
    orders = orders[np.argsort(squared, kind="stable")]
    orders = orders[((orders**2).sum(1) > 0) & ((orders**2).sum(1) <= highest**2)]
    squared = (orders**2).sum(1)
    sides = [_cosines(points.where[:, axis], shape[axis], highest)[:, orders[:, axis]] for axis in range(3)]
    basis = (sides[0] * sides[1] * sides[2]).astype(np.float32)

    tissues = _Tissues(points)
    level, log_field = points.level.astype(float), np.zeros(len(points.level))
    for order in ORDERS:
        used = basis[:, squared <= order**2]
        price = np.diag(STIFFNESS * squared[squared <= order**2].astype(float) ** 2)
        for _ in range(ROUNDS):
            weight = tissues.white(level - log_field) * points.even
            if weight.sum() < 1e-3 * ENOUGH:
                return None
            weight = (weight / weight.sum()).astype(np.float32)
            weighted = used * weight[:, None]
            middle, mean = weighted.sum(0), float(weight @ level)
            normal = weighted.T @ used - np.outer(middle, middle)
            right = weighted.T @ level.astype(np.float32) - middle * mean
            solution = np.linalg.solve(normal.astype(float) + price, right.astype(float))
            log_field = used @ solution
            log_field = log_field - float(weight @ log_field)
    coefficients = np.zeros((highest + 1,) * 3)
    coefficients[tuple(orders.T)] = solution
    coefficients[0, 0, 0] = -float(weight @ (used @ solution))
    return coefficients


class _Tissues:
    """CSF, gray and white matter as normal distributions of the log intensity without field; white matter's is 0."""

    def __init__(self, points: _Points) -> None:
        certain = points.white > CERTAIN
        middle = float(np.median(points.level[certain]))
        spread = 1.4826 * float(np.median(np.abs(points.level[certain] - middle)))
        rest = points.level[points.white < 0.1]
        gray = min(float(np.median(rest)) - middle, -0.12) if len(rest) else -0.3
        self.even = points.even
        self.mean = middle + np.array([-1.2, gray, 0.0])
        self.spread = np.array([0.4, 0.2, max(spread, 0.05)])
        prior = np.stack([0.25 * (1 - points.white), 0.75 * (1 - points.white), points.white])
        self.prior = (1 - 2 * DOUBT) * prior + DOUBT * np.array([0.5, 1, 0.5])[:, None]

    def white(self, level: np.ndarray) -> np.ndarray:
        """Precision with which each level (n,) tells that of white matter; learns the distributions on the way."""
        distance = (level[None] - self.mean[:, None]) / self.spread[:, None]
        density = self.prior * np.exp(-0.5 * distance**2) / self.spread[:, None]
        share = density / (density.sum(0) + OUTLIER)
        for tissue in range(3):
            weight = share[tissue] * self.even if tissue == 2 else share[tissue]
            if weight.sum() > ENOUGH / 2:
                self.mean[tissue] = (weight * level).sum() / weight.sum()
                variance = (weight * (level - self.mean[tissue]) ** 2).sum() / weight.sum()
                self.spread[tissue] = max(float(np.sqrt(variance)), LEAST_SPREAD)
        return share[2]


def _cosines(position: np.ndarray, length: int, highest: int) -> np.ndarray:
    """Cosines of order 0 to `highest` over a box of `length` voxels and its margin, at positions (n,): (n, K)."""
    across = (position / max(length - 1, 1) + MARGIN) / (1 + 2 * MARGIN)
    return np.cos(np.pi * np.arange(highest + 1) * across[:, None])
