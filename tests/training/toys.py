"""Brains and plans that train in seconds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import torch

from imunity_bids.models.imunity import Architecture
from imunity_bids.training.dataset import Brain
from imunity_bids.training.harmonizer import HarmonizerTraining


def toy_brains(count: int, sites: int, size: int = 40) -> list[Brain]:
    """Balls with a bright core, gray level by site."""
    grid = np.indices((size,) * 3) - (size - 1) / 2
    radius = np.sqrt((grid**2).sum(0))
    toys = []
    for index in range(count):
        rng = np.random.default_rng(index)
        gray = 0.4 + 0.2 * (index % sites)
        volume = np.where(radius < 0.25 * size, 0.7, gray) * (radius < 0.45 * size)
        volume = volume * (1 + 0.05 * rng.standard_normal(volume.shape)) * (radius < 0.45 * size)
        toys.append(Brain(f"b{index}", index % sites, torch.from_numpy(volume).clamp(0, 1).half()))
    return toys


def write_brains(brains: list[Brain], folder: Path) -> list[Path]:
    """As NIfTI files, a folder for each site."""
    for brain in brains:
        path = folder / f"site-{brain.site}" / f"{brain.name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.Nifti1Image(brain.volume.float().numpy(), np.eye(4)).to_filename(path)
    return sorted(folder.glob("site-*"))


def toy_plan(output: Path, **changes: object) -> HarmonizerTraining:
    """Eight steps of a tiny generator, with `changes`."""
    plain = HarmonizerTraining(
        output, "axial", Architecture(width=4), steps=8, batch=4, crop=32, every=4, rate=2e-3, site_pretraining=2
    )
    return replace(plain, **changes)
