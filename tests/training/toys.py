"""Brains and plans that train in seconds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from imunity_bids.models.imunity import Architecture
from imunity_bids.models.paper import PaperArchitecture
from imunity_bids.simulation import visit_volumes
from imunity_bids.simulation.visit_volumes import Coarse, coarse, simulate_visits
from imunity_bids.training import visit_batches
from imunity_bids.training.biology import Feature
from imunity_bids.training.dataset import Brain
from imunity_bids.training.harmonizer import Data, HarmonizerTraining
from imunity_bids.training.losses import PRESETS
from imunity_bids.training.paper import PaperTraining
from imunity_bids.training.real_slices import RealSlices
from imunity_bids.training.visit_batches import VisitBatches
from tests.simulation.people import toy_person


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


def toy_plan(output: Path, **changes: object) -> PaperTraining:
    """Eight steps of a tiny generator of the paper's kind, with `changes`."""
    plain = PaperTraining(
        output,
        "axial",
        architecture=PaperArchitecture(width=4),
        weights=PRESETS["code"],
        steps=8,
        batch=4,
        crop=32,
        every=4,
        rate=2e-3,
        site_pretraining=2,
    )
    return replace(plain, **changes)


def small_volumes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Coarse volumes of 32 voxels a side, that a toy person fits into."""
    for module in (visit_volumes, visit_batches):
        monkeypatch.setattr(module, "SHAPE", (32, 32, 32))


def toy_people(count: int = 3, first: int = 0) -> list[Coarse]:
    """Balls whose white parts have different sizes."""
    people = []
    for number in range(first, first + count):
        person = toy_person(number, 0.45 + 0.05 * (number % 5))
        image = np.tensordot((0.2, 0.5, 0.7), person.parts, 1).clip(0.01, 1) * person.mask
        people.append(coarse(person, image, np.random.default_rng(number)))
    return people


def toy_data(folder: Path, sites: int = 0, features: tuple[Feature, ...] = (), count: int = 20) -> Data:
    """Three persons and two others, who make so many visits; with sites, own scans are from so many in turn."""
    known, unseen = toy_people(3), toy_people(2, 3)
    visits = simulate_visits(known, count, folder / "visits", 1), simulate_visits(unseen, count, folder / "others", 2)
    learned, judged = (VisitBatches(*part, "axial") for part in zip((known, unseen), visits, strict=True))
    real = RealSlices(learned.stacks, [number % sites for number in range(3)]) if sites else None
    return Data(learned, judged, real, features)


def toy_setup(output: Path, **changes: object) -> HarmonizerTraining:
    """Eight steps of a tiny generator of our kind, with `changes`."""
    shape = Architecture(width=4, code=8, hidden=16)
    plain = HarmonizerTraining(output, "axial", architecture=shape, steps=8, every=4, rate=2e-3, site_pretraining=2)
    return replace(plain, **changes)
