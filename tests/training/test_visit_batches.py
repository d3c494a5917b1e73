"""Batches of simulated visits and of real slices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from imunity_bids.simulation import visit_volumes
from imunity_bids.simulation.visit_volumes import simulate_visits
from imunity_bids.training.real_slices import RealSlices
from imunity_bids.training.visit_batches import CODE_SLICES, CURVE_VOXELS, SCANNERS, Stack, VisitBatches
from tests.training.toys import small_volumes, toy_people


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    small_volumes(monkeypatch)
    for name in ("TRANSMIT", "RESIDUAL", "WHITE_MISS", "DRAWN_LEVELS"):
        monkeypatch.setattr(visit_volumes, name, 0.0)
    monkeypatch.setattr(visit_volumes, "NOISE", (1e-6, 2e-6))


@pytest.mark.parametrize("axis", ["sagittal", "coronal", "axial"])
def test_slices_of_a_stack_are_those_of_the_volume(axis: str) -> None:
    person = toy_people(1)[0]
    stack, number = Stack(person, axis), ("sagittal", "coronal", "axial").index(axis)
    volume = np.zeros((32, 32, 32), np.float32)
    volume[tuple(person.where.T)] = person.scan
    for position in (stack.first, 14, stack.last):
        voxels = stack.voxels(position)
        np.testing.assert_array_equal(stack.image(person.scan[voxels], position), np.take(volume, position, number))
    assert stack.places(14)[0, 0, 0] == pytest.approx(stack.place[number][14].item())


def test_a_truth_is_the_person_at_the_scanners_levels(tmp_path: Path) -> None:
    """Without noise and fields a scan on its own scanner is its own truth; another person's is never the target."""
    people = toy_people(3)
    visits = simulate_visits(people, 20, tmp_path, 1)
    batches = VisitBatches(people, visits, "axial")
    batch = batches.batch(torch.Generator().manual_seed(0))
    volumes = 2 * SCANNERS
    assert batch.code_slices.shape == (volumes, CODE_SLICES, 16, 16)
    assert batch.code_places.shape == (volumes, CODE_SLICES, 3, 16, 16)
    assert batch.wanted.shape == (len(batch.source), CURVE_VOXELS)
    inside = batch.image > 0
    assert ((batch.truth > 0) == inside).all()
    partners = batch.source // 2 == batch.target // 2
    assert partners.any() and not partners.all()
    errors = (batch.values[batch.source] - batch.wanted).abs().mean(dim=1)
    # T1 is the person's own on both; what is left is half precision and where white stripe finds white matter
    assert errors[partners].max() < 0.01
    assert errors[~partners].mean() > 0.02


def test_the_same_random_numbers_give_the_same_batch(tmp_path: Path) -> None:
    people = toy_people(3)
    batches = VisitBatches(people, simulate_visits(people, 20, tmp_path, 1), "coronal")
    one, again, other = (batches.batch(torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not torch.equal(one.image, other.image)


def test_one_person_is_his_own_reference(tmp_path: Path) -> None:
    person = toy_people(1)
    batch = VisitBatches(person, simulate_visits(person, 12, tmp_path, 1), "axial").batch(torch.Generator())
    assert len(batch.source) and (batch.source != batch.target).all()


def test_every_site_is_in_every_batch_of_real_slices() -> None:
    people = toy_people(5)
    real = RealSlices([Stack(person, "axial") for person in people], [0, 1, 2, 0, 0])
    batch = real.batch(7, torch.Generator().manual_seed(0))
    assert real.sites == 3
    assert batch.site.tolist() == [0, 0, 1, 1, 2, 2]
    assert batch.brain.tolist()[2:] == [1, 1, 2, 2]
    assert ((batch.target >= 0) & (batch.target < 7)).all()
    darkest, brightest = batch.quantiles[:, 0], batch.quantiles[:, -1]
    assert (darkest > 0).all() and (brightest > 0.6).all()
