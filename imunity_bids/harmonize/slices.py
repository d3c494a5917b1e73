"""Volumes as slices of an axis, and where and how the models run on them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from imunity_bids.models.card import AXES

BATCH, BATCH_ON_GPU = 16, 64  # slices at once, unless the user says
log = logging.getLogger(__name__)

_T = TypeVar("_T")


@dataclass
class Compute:
    """Where and how the models run; `fallbacks` says what had to give way."""

    device: str = "cpu"
    batch: int = 0  # slices at once; 0: as many as suit the device
    precision: str = "float32"  # or float16, bfloat16: autocast, on a GPU only
    fallbacks: list[str] = field(default_factory=list)
    precisions: set[str] = field(default_factory=set)  # that ran

    def __post_init__(self) -> None:
        self.batch = self.batch or (BATCH_ON_GPU if torch.device(self.device).type == "cuda" else BATCH)

    @property
    def ran(self) -> str:
        """The precision that ran; both, joined by a plus, where the GPU's memory was not enough for all axes."""
        return "+".join(sorted(self.precisions))

    def autocast(self) -> torch.autocast:
        """Context of a forward pass; notes the precision."""
        kind = torch.device(self.device).type
        reduced = self.precision != "float32" and kind == "cuda"
        self.precisions.add(self.precision if reduced else "float32")
        return torch.autocast(kind, getattr(torch, self.precision), enabled=reduced)

    def with_fallback(self, work: Callable[[], _T]) -> _T:
        """Out of GPU memory: halve the batch, at one slice go to the CPU."""
        while True:
            try:
                return work()
            except torch.cuda.OutOfMemoryError:
                torch.cuda.empty_cache()
                if self.batch > 1:
                    self.batch //= 2
                    self.fallbacks.append(f"out of GPU memory: batch of {self.batch}")
                else:
                    self.device = "cpu"
                    self.batch = 8
                    self.fallbacks.append("out of GPU memory: ran on the CPU")
                log.warning(self.fallbacks[-1])


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


def bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    """Smallest box around what is True; the whole volume where nothing is."""
    box = []
    for axis in range(3):
        used = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        box.append(slice(used[0], used[-1] + 1) if len(used) else slice(None))
    return tuple(box)


def median_of_three(first: np.ndarray, second: np.ndarray, third: np.ndarray) -> np.ndarray:
    """Voxelwise median of three volumes: the paper's fusion (section 2.2.4), without sorting."""
    return np.maximum(np.minimum(first, second), np.minimum(np.maximum(first, second), third))
