"""The comparator CycleGAN, and the contest of two simulated scanners."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from imunity_bids.evaluation import cyclegan
from imunity_bids.evaluation.cyclegan import CycleGan, train_cyclegan, translate

TINY = CycleGan(steps=60, width=4, blocks=1, every=20, rate=2e-3)


def disks(level: float, count: int = 8) -> torch.Tensor:
    """Slices of one tissue, (count, 1, 32, 32)."""
    distance = np.hypot(*(np.indices((32, 32)) - 15.5))
    radii = np.linspace(8, 14, count)[:, None, None, None]
    return torch.from_numpy(level * (distance < radii)).float()


def test_one_level_becomes_the_other(tmp_path: Path) -> None:
    dark, bright = disks(0.4), disks(0.8)
    translator = train_cyclegan(dark, bright, TINY, tmp_path)
    inside = dark > 0
    with torch.inference_mode():
        moved = translator(dark)
    assert float((moved - 0.8)[inside].abs().mean()) < 0.5 * 0.4  # half of the way at least, in 60 steps
