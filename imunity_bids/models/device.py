"""Where networks run: the device that is asked for, and the way back to the CPU where a GPU's memory is not enough."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from imunity_bids.errors import Usage

T = TypeVar("T")
log = logging.getLogger(__name__)


def resolve_device(name: str) -> str:
    """`auto` is the GPU where there is one.

    Raises
    ------
    Usage
        A GPU is asked for that is not there.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda"):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (torch.device(name).index or 0) >= count:
            there = f"there are {count}" if count else "torch finds no GPU"
            raise Usage(f"--device {name}: {there}; name another, or auto or cpu")
    return name


def moved(values: Tensor, device: str | torch.device) -> Tensor:
    """On the device; to a GPU through pinned memory, so that the copy does not wait for what is computed there."""
    if torch.device(device).type == "cuda":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


def on_gpu_or_cpu(work: Callable[[str], T], device: str) -> T:
    """`work` on the device, and again on the CPU where the GPU has not enough memory for it."""
    try:
        return work(device)
    except torch.cuda.OutOfMemoryError:
        torch.cuda.empty_cache()
        log.warning("out of GPU memory: ran on the CPU")
        return work("cpu")
