"""2.5D inference (section 2.2.4): every slice of three axes through its model, fused by the median."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from imunity_bids.harmonize import curves
from imunity_bids.harmonize.slices import (
    Compute,
    bounding_box,
    from_slices,
    median_of_three,
    pad_to_multiple,
    to_slices,
)
from imunity_bids.models.bundle import Bundle, Reference
from imunity_bids.models.card import AXES
from imunity_bids.models.device import moved
from imunity_bids.models.imunity import Contrast, Generator, one_scan
from imunity_bids.models.paper import PaperGenerator
from imunity_bids.models.quantiles import quantiles

CODE_MAP = (8, 8)  # on which contrast codes that are not pooled are averaged over brains of different sizes
OWN_SLICES = 12  # of the scan itself, that the contrast encoder sees


@dataclass(frozen=True)
class Harmonized:
    """A harmonized brain and what is known of it, volumes (X, Y, Z) float32, 0 outside the mask."""

    image: np.ndarray
    uncertainty: np.ndarray  # absolute error to expect; of the paper's generator: standard deviation of the three axes
    curve_change: float | None = None  # mean absolute change in the mask; None: the paper's generator paints
    curve: np.ndarray | None = None  # (FINE,), what makes the whole brain what it is; None likewise


def contrast_codes(volume: np.ndarray, bundle: Bundle, slices: int) -> dict[str, Tensor]:
    """Contrast code per axis of a white-striped brain: of `slices` slices of each axis."""
    brain = volume[bounding_box(volume > 0)]
    generators = bundle.generators
    if isinstance(generators[AXES[0]], Generator):
        known = curves.coarse_quantiles(brain)
        return {axis: curves.contrast_code(brain, known, generators[axis], axis, slices) for axis in AXES}
    return {axis: _painted_code(brain, generators[axis], axis, slices) for axis in AXES}


def intensity_quantiles(volume: np.ndarray, mask: np.ndarray) -> Tensor:
    """Intensities inside the mask at 0, 1, …, 100 %."""
    return quantiles(torch.from_numpy(volume[mask]))


def harmonize(
    volume: np.ndarray,
    mask: np.ndarray,
    bundle: Bundle,
    reference: Reference,
    compute: Compute,
    seen: np.ndarray | None = None,
    others: Sequence[np.ndarray] = (),
    site: Reference | None = None,
) -> Harmonized:
    """The brain with the reference's contrast.

    Parameters
    ----------
    volume
        White-striped brain in [0, 1], white matter at 0.7, RAS, on the bundle's grid (any size works).
    mask
        Brain; what the models see and what they give is zero outside.
    seen
        Part of the mask (bool) that tells the scan's contrast; None: all of it. What is left out, lesions, is
        harmonized like the rest. The paper's generators do not ask for the scan's contrast.
    others
        Brains of the same person by the same scanner, 0 where they tell nothing: the contrast is the mean of all, so
        that scans that differ by a change of the brain alone get one curve.
    site
        Mean contrast of scans of the same scanner, in the place of the scan's own: all scans get one curve.
    """
    box = bounding_box(mask)
    inside = mask[box]
    brain = np.ascontiguousarray(volume[box] * inside, dtype=np.float32)
    if isinstance(bundle.generators[AXES[0]], Generator):
        telling = [brain if seen is None else brain * seen[box], *(other[bounding_box(other > 0)] for other in others)]
        own = _contrast_of(telling, bundle) if site is None else _mean_contrast(site)
        *volumes, curve = _by_curves(brain, own, bundle, reference, compute)
        change = float(np.abs(volumes[0] - brain)[inside].mean()) if inside.any() else 0.0
    else:
        volumes, change, curve = _painted(brain, bundle, reference, compute), None, None
    results = np.zeros((len(volumes), *volume.shape), np.float32)
    results[(slice(None), *box)] = np.stack(volumes) * inside
    return Harmonized(*results, change, curve)


def _contrast_of(brains: list[np.ndarray], bundle: Bundle) -> dict[str, Contrast]:
    """Of scans of one scanner, their mean, by axis."""
    known = [curves.coarse_quantiles(brain) for brain in brains]
    found = {}
    for axis in AXES:
        generator = bundle.generators[axis]
        codes = [
            curves.contrast_code(brain, q, generator, axis, OWN_SLICES) for brain, q in zip(brains, known, strict=True)
        ]
        found[axis] = one_scan(_mean(codes), _mean(known)[None])
    return found


def _mean_contrast(mean: Reference) -> dict[str, Contrast]:
    """By axis."""
    brains = torch.tensor([[float(mean.brains)]])
    return {axis: Contrast(mean.codes[axis], mean.quantiles[None], brains) for axis in AXES}


def _by_curves(
    brain: np.ndarray, own: dict[str, Contrast], bundle: Bundle, reference: Reference, compute: Compute
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image, error, and the curve: the median of three curves is the curve of the voxels' median."""
    wanted, parts = _mean_contrast(reference), []
    for axis in AXES:
        parts.append(curves.harmonize_axis(brain, bundle.generators[axis], axis, own[axis], wanted[axis], compute))
    axes, errors, tables = zip(*parts, strict=True)
    error = curves.at_full_resolution(np.mean(errors, axis=0), brain.shape)
    return median_of_three(*axes), error, median_of_three(*tables)


def _mean(parts: list[Tensor]) -> Tensor:
    """In an order of its own: all scans of a person have to come to the same digits."""
    return torch.stack(sorted(parts, key=lambda part: part.flatten().tolist())).mean(dim=0)


def _painted(
    brain: np.ndarray, bundle: Bundle, reference: Reference, compute: Compute
) -> tuple[np.ndarray, np.ndarray]:
    axes = [
        compute.with_fallback(
            lambda axis=axis: _paint(brain, bundle.generators[axis], axis, reference.codes[axis], compute)
        )
        for axis in AXES
    ]
    return median_of_three(*axes), np.std(axes, axis=0)


@torch.inference_mode()
def _paint(brain: np.ndarray, generator: PaperGenerator, axis: str, code: Tensor, compute: Compute) -> np.ndarray:
    slices = to_slices(brain, axis)
    height, width = slices.shape[-2:]
    generator.to(compute.device)
    code = code.to(compute.device)
    padded = pad_to_multiple(slices, generator.architecture.multiple)
    with compute.autocast():
        parts = [
            generator(moved(part.contiguous(memory_format=torch.channels_last), compute.device), code).float().cpu()
            for part in padded.split(compute.batch)
        ]
    return from_slices(torch.cat(parts)[..., :height, :width], axis)


@torch.inference_mode()
def _painted_code(brain: np.ndarray, generator: PaperGenerator, axis: str, slices: int) -> Tensor:
    stack = to_slices(brain, axis)
    first = max(0, (len(stack) - slices) // 2)
    chosen = pad_to_multiple(stack[first : first + slices], generator.architecture.multiple)
    device = next(generator.parameters()).device
    code = generator.contrast(chosen.to(device)).mean.mean(dim=0, keepdim=True).cpu()
    return code if generator.architecture.pooled_contrast else F.adaptive_avg_pool2d(code, CODE_MAP)
