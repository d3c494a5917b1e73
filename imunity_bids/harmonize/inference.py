"""2.5D inference (section 2.2.4): every slice of three axes through its model, fused by the median."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from imunity_bids.models.bundle import Bundle, Reference
from imunity_bids.models.card import AXES
from imunity_bids.models.histogram import HistogramNet
from imunity_bids.models.imunity import DARKEST, Generator
from imunity_bids.models.quantiles import match, quantiles
from imunity_bids.models.uncertainty import ErrorNet, describe

log = logging.getLogger(__name__)

VOXELS_AT_ONCE = 10_000  # of the error network: what lies in the processor's cache; all of them would take gigabytes
CODE_MAP = (8, 8)  # on which contrast codes that are not pooled are averaged over brains of different sizes


@dataclass
class Compute:
    """Where and how the models run; `fallbacks` says what had to give way."""

    device: str = "cpu"
    batch: int = 16
    precision: str = "float32"  # or float16, bfloat16: autocast, on a GPU only
    fallbacks: list[str] = field(default_factory=list)
    precisions: set[str] = field(default_factory=set)  # that ran

    @property
    def ran(self) -> str:
        """The precision that ran; both, joined by a plus, where the GPU's memory was not enough for all axes."""
        return "+".join(sorted(self.precisions))


def to_slices(volume: np.ndarray, axis: str) -> Tensor:
    """(X, Y, Z) RAS -> (N, 1, H, W) along an axis."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(volume, AXES.index(axis), 0), dtype=np.float32))[:, None]


def from_slices(slices: Tensor, axis: str) -> np.ndarray:
    """Inverse of `to_slices`."""
    return np.moveaxis(slices[:, 0].numpy(), 0, AXES.index(axis))


def pad_to_multiple(slices: Tensor, multiple: int) -> Tensor:
    """Zeros at the far ends of both axes."""
    height, width = slices.shape[-2:]
    return F.pad(slices, (0, -width % multiple, 0, -height % multiple))


@torch.inference_mode()
def contrast_codes(volume: np.ndarray, bundle: Bundle, slices: int) -> dict[str, Tensor]:
    """Contrast code per axis of a white-striped brain: the mean over `slices` slices around the brain's middle."""
    box = _bounding_box(volume > 0)
    codes = {}
    for axis in AXES:
        stack = to_slices(volume[box], axis)
        first = max(0, (len(stack) - slices) // 2)
        chosen = pad_to_multiple(stack[first : first + slices], bundle.generators[axis].architecture.multiple)
        generator = bundle.generators[axis]
        device = next(generator.parameters()).device
        code = generator.contrast(chosen.to(device)).mean.mean(dim=0, keepdim=True).cpu()
        codes[axis] = code if generator.architecture.pooled_contrast else F.adaptive_avg_pool2d(code, CODE_MAP)
    return codes


def intensity_quantiles(volume: np.ndarray, mask: np.ndarray) -> Tensor:
    """Intensities inside the mask at 0, 1, …, 100 %."""
    return quantiles(torch.from_numpy(volume[mask]))


def harmonize(
    volume: np.ndarray, mask: np.ndarray, bundle: Bundle, reference: Reference, compute: Compute
) -> tuple[np.ndarray, np.ndarray]:
    """Harmonized brain and its uncertainty, float32, zero outside the mask.

    The uncertainty is the error that the error network expects at each place. Without one, it joins the spread of the
    three axes, which share what they do not know, and the error that the histogram network expects at each intensity.

    Parameters
    ----------
    volume
        White-striped brain in [0, 1], white matter at 0.7, RAS, on the bundle's grid (any size works).
    mask
        Brain; what the models see and what they give is zero outside.
    """
    box = _bounding_box(mask)
    inside = mask[box]
    brain = volume[box] * inside
    harmonized, spread, expected = harmonize_parts(brain, inside, bundle, reference, compute)
    if bundle.error is None:
        uncertainty = np.hypot(spread, expected)
    else:
        uncertainty = np.zeros_like(harmonized)
        uncertainty[inside] = _expected_error(describe(brain, harmonized, spread, expected, inside), bundle.error)
    results = np.zeros((2, *volume.shape), np.float32)
    results[(slice(None), *box)] = harmonized, uncertainty
    return tuple(results)


def harmonize_parts(
    brain: np.ndarray, mask: np.ndarray, bundle: Bundle, reference: Reference, compute: Compute
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Harmonized brain, spread (standard deviation) of the three axes, and the error that the histogram network
    expects at each intensity, float32; `brain` is what `harmonize` takes, and 0 outside the mask.
    """
    matched, error = brain, np.zeros_like(brain)
    if bundle.generators[AXES[0]].architecture.prematch:
        matched, error = _prematched(brain, mask, reference.quantiles, bundle.histogram)
    stack = np.stack(
        [_one_axis(matched, bundle.generators[axis], axis, reference.codes[axis], compute) for axis in AXES]
    )
    return np.median(stack, axis=0) * mask, stack.std(axis=0) * mask, error * mask


@torch.inference_mode()
def _expected_error(features: np.ndarray, network: ErrorNet) -> np.ndarray:
    """(n, F) -> (n,)."""
    return torch.cat([network(part) for part in torch.from_numpy(features).split(VOXELS_AT_ONCE)]).numpy()


@torch.inference_mode()
def _prematched(
    volume: np.ndarray, mask: np.ndarray, reference: Tensor, network: HistogramNet | None
) -> tuple[np.ndarray, np.ndarray]:
    """The brain with the histogram it would have on the reference's scanner, and the error to expect of that.

    Without a network the histogram is the reference's and the error is not known (0). What is left to the generators
    is what a histogram cannot know.
    """
    values = torch.from_numpy(volume[mask])[None]
    own, target = quantiles(values[0])[None], reference[None]
    aim, error = network(own, target) if network else (target, torch.zeros_like(target))
    matched, expected = np.zeros_like(volume), np.zeros_like(volume)
    matched[mask] = match(values, own, aim)[0].clamp(DARKEST, 1).numpy()
    expected[mask] = match(values, own, error)[0].clamp(min=0).numpy()
    return matched, expected


def _one_axis(volume: np.ndarray, generator: Generator, axis: str, code: Tensor, compute: Compute) -> np.ndarray:
    slices = to_slices(volume, axis)
    height, width = slices.shape[-2:]
    padded = pad_to_multiple(slices, generator.architecture.multiple)
    out = _with_fallback(lambda: _in_batches(padded, generator, code, compute), compute)
    return from_slices(out[..., :height, :width], axis)


@torch.inference_mode()
def _in_batches(slices: Tensor, generator: Generator, code: Tensor, compute: Compute) -> Tensor:
    generator.to(compute.device)
    code = code.to(compute.device)
    kind = torch.device(compute.device).type
    reduced = compute.precision != "float32" and kind == "cuda"
    with torch.autocast(kind, getattr(torch, compute.precision), enabled=reduced):
        parts = [
            generator(part.to(compute.device, memory_format=torch.channels_last), code).float().cpu()
            for part in slices.split(compute.batch)
        ]
    compute.precisions.add(compute.precision if reduced else "float32")
    return torch.cat(parts)


def _with_fallback(work: Callable[[], Tensor], compute: Compute) -> Tensor:
    """Out of GPU memory: halve the batch, at one slice go to the CPU; `compute` remembers both."""
    while True:
        try:
            return work()
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            if compute.batch > 1:
                compute.batch //= 2
                compute.fallbacks.append(f"out of GPU memory: batch of {compute.batch}")
            else:
                compute.device = "cpu"
                compute.batch = 8
                compute.fallbacks.append("out of GPU memory: ran on the CPU")
            log.warning(compute.fallbacks[-1])


def _bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    """Smallest box around what is True; the whole volume where nothing is."""
    box = []
    for axis in range(3):
        used = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        box.append(slice(used[0], used[-1] + 1) if len(used) else slice(None))
    return tuple(box)
