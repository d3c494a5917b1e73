"""Batches of simulated visits and of real slices."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from imunity_bids.simulation import visit_volumes
from imunity_bids.simulation.scanners import SCANNERS as PROTOCOLS
from imunity_bids.simulation.visit_volumes import coarse, simulate_visits
from imunity_bids.simulation.visits import perfect
from imunity_bids.training.real_slices import RealSlices
from imunity_bids.training.visit_batches import (
    CODE_SLICES,
    CURVE_VOXELS,
    PURE_VOXELS,
    SCANNERS,
    Stack,
    VisitBatches,
    draw_references,
)
from tests.simulation.people import toy_person
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
    volumes = 3 * SCANNERS
    assert batch.code_slices.shape == (volumes, CODE_SLICES, 16, 16)
    assert batch.code_places.shape == (volumes, CODE_SLICES, 3, 16, 16)
    assert batch.wanted.shape == (len(batch.source), CURVE_VOXELS + 3 * PURE_VOXELS)
    assert len(batch.source) == volumes * SCANNERS
    inside = batch.image > 0
    assert ((batch.truth > 0) == inside).all()
    partners = batch.source // 3 == batch.reference.argmax(dim=1) // 3
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
    assert len(batch.source) and (batch.reference.argmax(dim=1) != batch.source).all()


def test_references_are_some_other_persons_of_one_scanner() -> None:
    """Of two scanners with four volumes each, the first person being on both."""
    persons = torch.tensor([0, 1, 2, 3, 4, 0, 5, 6])
    source, target = torch.arange(8).repeat_interleave(2), torch.tensor([0, 4]).repeat(8)
    g, counts = torch.Generator().manual_seed(1), set()
    for _ in range(20):
        shares = draw_references(persons, source, target, 4, g)
        torch.testing.assert_close(shares.sum(dim=1), torch.ones(16))
        for pair in range(16):
            shown = torch.nonzero(shares[pair]).flatten()
            assert ((shown >= target[pair]) & (shown < target[pair] + 4)).all()
            assert (persons[shown] != persons[source[pair]]).all()
            assert (shares[pair, shown] == 1 / len(shown)).all()
            counts.add(len(shown))
    assert counts == {1, 2, 3, 4}


def test_white_matter_of_a_truth_is_where_white_stripe_puts_it() -> None:
    """Whatever the texture of white matter and the other levels are."""
    person = toy_people(1)[0]
    stack = Stack(person, "axial")
    for levels in ((0.1, 0.5, 0.7), (0.3, 0.65, 0.8)):
        truth = stack.truth(stack.white, np.array(levels, np.float32), 1, np.array((0.5, 0.3)))
        assert np.median(truth) == pytest.approx(0.7, abs=1e-6)


def test_teacher_and_judge_put_white_matter_at_the_same_level() -> None:
    """White matter is brighter in its depth, so where it is measured decides: the app and the judge take all of it."""
    ball = toy_person(0)
    depth = ndimage.distance_transform_edt(ball.fractions[2] > 0.5)
    person = replace(ball, texture=(1.5 * depth / depth.max()).astype(np.float32))
    scanner = replace(PROTOCOLS[0], fwhm_mm=(0.0, 0.0, 0.0))
    scatter = np.ones(3)
    levels = scanner.signal(np.ones(1), scatter)[:, 0]
    judge = perfect(person, scanner, scatter)

    made = coarse(person, judge, np.random.default_rng(0))
    truth = Stack(made, "axial").truth(np.arange(len(made.where)), levels.astype(np.float32), 0, np.zeros(2))
    # half precision, and a median of every eighth voxel; well inside white matter it would be 0.02 off
    np.testing.assert_allclose(truth, made.scan.astype(np.float32).clip(0.004, 1), atol=0.004)


def test_voxels_well_inside_a_tissue_come_last() -> None:
    """Or, of tissue that is nowhere thick enough (the rim of CSF), where there is most of it."""
    person = toy_people(1)[0]
    voxels = Stack(person, "axial").some_voxels(np.random.default_rng(0))
    inside = voxels[CURVE_VOXELS:].reshape(3, PURE_VOXELS)
    for tissue, where in enumerate(inside):
        assert (person.tissue[where] == tissue).all()
        assert (person.pure[where] == tissue).all() == (tissue in person.pure)


def test_every_site_is_in_every_batch_of_real_slices() -> None:
    people = toy_people(5)
    real = RealSlices([Stack(person, "axial") for person in people], [0, 1, 2, 0, 0])
    batch = real.batch(0, 7, torch.Generator().manual_seed(0))
    assert real.sites == 3
    assert batch.site.tolist() == [0, 0, 1, 1, 2, 2]
    assert batch.brain.tolist()[2:] == [1, 1, 2, 2]
    assert ((batch.target >= 0) & (batch.target < 7)).all()
    darkest, brightest = batch.quantiles[:, 0], batch.quantiles[:, -1]
    assert (darkest > 0).all() and (brightest > 0.6).all()
