"""Our generators on a volume: codes and curves from every second voxel, applied to all of them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from imunity_bids.harmonize.slices import Compute, from_slices, pad_to_multiple, to_slices
from imunity_bids.models.card import AXES
from imunity_bids.models.device import moved
from imunity_bids.models.imunity import (
    COARSE,
    CODE_STEP,
    DARKEST,
    LEAST_ERROR,
    QUARTER,
    RIM,
    Contrast,
    Generator,
    after_curve,
    anchored,
    box_places,
    look_up,
    slice_places,
)
from imunity_bids.models.quantiles import quantiles

FINE = 1025  # intensities at which the curve for the whole brain is tabulated


def coarse_quantiles(brain: np.ndarray) -> Tensor:
    """Of a brain in its box, 0 outside, by every second voxel along each axis: (Q,).

    Of so small a brain that none of these is in it, all voxels count; of none, zeros nearly.
    """
    parts = (_coarse(brain), brain, np.full(1, DARKEST, np.float32))
    seen = next(part for part in parts if (part > 0).any())
    return quantiles(torch.from_numpy(seen[seen > 0]))


@torch.inference_mode()
def contrast_code(brain: np.ndarray, known: Tensor, generator: Generator, axis: str, count: int) -> Tensor:
    """Code (1, C) of a white-striped brain in its box, 0 outside, from `count` slices evenly along the brain.

    `known` are its `coarse_quantiles`, (Q,).
    """
    seen = _coarse(brain)
    places, along = _places(seen), AXES.index(axis)
    last = seen.shape[along] - 1
    rim = min(RIM, last // 2)
    edges = np.linspace(rim, last + 1 - rim, count + 1)
    numbers = ((edges[:-1] + edges[1:]) / 2).astype(int).tolist()
    slices = to_slices(seen, axis)[numbers, 0]
    where = torch.stack([slice_places(places, along, number) for number in numbers])
    slices, where = (t[..., ::CODE_STEP, ::CODE_STEP] for t in (slices, where))
    device = next(generator.parameters()).device
    given = (part[None].to(device) for part in (slices, where, known))
    return generator.contrast(*given).mean.float().cpu()


def harmonize_axis(
    brain: np.ndarray, generator: Generator, axis: str, own: Contrast, wanted: Contrast, compute: Compute
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One axis: the brain after the curve, in its shape, the error to expect, at every second voxel, and the curve,
    (FINE,); float32."""
    with torch.inference_mode():
        curve = _curve(generator, own, wanted)
        seen = _coarse(brain)
        error = compute.with_fallback(lambda: _errors(seen, curve, generator, axis, own, wanted, compute))
    return apply_curve(curve.numpy(), brain), np.ascontiguousarray(from_slices(error[:, None], axis)), curve.numpy()


def apply_curve(curve: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """What a curve (FINE,) makes of intensities in [0, 1], of any shape, float32; the background stays 0."""
    return _apply(torch.from_numpy(curve), torch.from_numpy(np.ascontiguousarray(brain))).numpy()


def at_full_resolution(volume: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Every second voxel -> all of them, linear, (X, Y, Z)."""
    return anchored(torch.from_numpy(volume)[None, None], COARSE, shape)[0, 0].numpy()


def _coarse(brain: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(brain[::COARSE, ::COARSE, ::COARSE])


def _places(seen: np.ndarray) -> list[Tensor]:
    return box_places((0, 0, 0), [n - 1 for n in seen.shape], seen.shape)


def _curve(generator: Generator, own: Contrast, wanted: Contrast) -> Tensor:
    """(FINE,): what becomes of evenly spaced intensities."""
    device = next(generator.parameters()).device
    aims = generator.curve(*(Contrast(*(part.to(device) for part in side)) for side in (own, wanted))).float().cpu()
    return after_curve(torch.linspace(0, 1, FINE)[None], own.quantiles, aims)[0]


def _apply(curve: Tensor, values: Tensor) -> Tensor:
    """The background stays 0."""
    position = values * (FINE - 1)
    left = position.long().clamp(max=FINE - 2)
    return torch.lerp(curve[left], curve[left + 1], position - left) * (values > 0)


def _errors(
    seen: np.ndarray, curve: Tensor, generator: Generator, axis: str, own: Contrast, wanted: Contrast, compute: Compute
) -> Tensor:
    """(N, H, W) at the coarse resolution."""
    generator.to(compute.device)
    slices = to_slices(seen, axis)
    height, width = slices.shape[-2:]
    places, along = _places(seen), AXES.index(axis)
    where = torch.stack([slice_places(places, along, number) for number in range(len(slices))])
    slices, where = (pad_to_multiple(part, generator.architecture.multiple) for part in (slices, where))
    codes = [side.code.to(compute.device) for side in (own, wanted)]
    errors = []
    for image, place in zip(slices.split(compute.batch), where.split(compute.batch), strict=True):
        image, place = moved(image, compute.device), moved(place, compute.device)
        curved = _apply(curve.to(compute.device), image)
        with compute.autocast():
            error, _ = generator.error_map(image, curved, place, *(code.expand(len(image), -1) for code in codes))
        error = anchored(error, QUARTER, image.shape[-2:])
        errors.append((look_up(error, curved).exp() - LEAST_ERROR).clamp(min=0)[:, 0, :height, :width].cpu())
    return torch.cat(errors)
