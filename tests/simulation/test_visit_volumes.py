"""Visits as coarse volumes: what the generators learn from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from imunity_bids.simulation import visit_volumes
from imunity_bids.simulation.visit_volumes import coarse, simulate_visits, target_levels
from tests.simulation.people import toy_person
from tests.training.toys import small_volumes, toy_people


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    small_volumes(monkeypatch)


def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No noise, no field, white matter found where it is, masks as the person's."""
    for name in ("TRANSMIT", "RESIDUAL", "WHITE_MISS", "RIM_SHARE"):
        monkeypatch.setattr(visit_volumes, name, 0.0)
    monkeypatch.setattr(visit_volumes, "NOISE", (1e-6, 2e-6))


def test_a_coarse_person_is_every_second_voxel() -> None:
    person = toy_person(0)
    image = np.tensordot((0.2, 0.5, 0.7), person.parts, 1) * person.mask
    made = coarse(person, image, np.random.default_rng(0))
    low = np.argwhere(person.mask).min(axis=0)
    offset = made.where.astype(int) - made.where.min(axis=0)
    at = tuple((low + 2 * offset).T)
    np.testing.assert_allclose(made.scan, image[at], atol=1e-3)  # half precision
    np.testing.assert_allclose(np.tensordot((0.2, 0.5, 0.7), made.parts[0], 1), image[at], atol=3e-3)
    assert made.position.min() == pytest.approx(-1) and made.position.max() == pytest.approx(1)


def test_a_brain_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visit_volumes, "SHAPE", (16, 16, 16))
    person = toy_person(0)
    with pytest.raises(ValueError, match=r"p0: a brain of \(19, 19, 19\) voxels does not fit"):
        coarse(person, person.mask.astype(float), np.random.default_rng(0))


def test_a_group_is_of_several_persons_on_one_scanner_and_truths_have_white_matter_at_its_level(tmp_path: Path) -> None:
    visits = simulate_visits(toy_people(3), 30, tmp_path, 1)
    assert visits.group == 3
    even, odd = torch.arange(0, 30, 3), torch.arange(1, 30, 3)
    assert (visits.person.view(10, 3).sort(dim=1).values == torch.arange(3)).all()
    for column in visits.protocol:
        assert torch.equal(column[even], column[odd])
    assert torch.equal(visits.resolution[even], visits.resolution[odd])
    levels = target_levels(visits, even, odd.flip(0))
    assert levels.shape == (10, 3)
    torch.testing.assert_close(levels[:, 2], torch.full((10,), 0.7))
    assert (levels[:, 0] < levels[:, 1]).all()
    drawn = ~visits.drawn[odd.flip(0), 1].isnan()
    assert drawn.any() and not drawn.all()


def test_a_scan_without_noise_and_fields_is_the_person_at_the_scanners_levels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet(monkeypatch)
    people = toy_people(3)
    visits = simulate_visits(people, 10, tmp_path, 1)
    number = torch.arange(9)
    for visit, levels in zip(number.tolist(), target_levels(visits, number, number).numpy(), strict=True):
        person, resolution = people[int(visits.person[visit])], int(visits.resolution[visit])
        truth = person.image(levels, resolution, visits.rim[visit], slice(None)).clip(0.004, 1)
        scale = np.median(visits.scan(visit) / truth)
        np.testing.assert_allclose(visits.scan(visit), truth * scale, atol=3e-3)  # half precision, interpolated levels
        assert scale == pytest.approx(1, abs=0.01)  # the median of white voxels, texture and rims among them


def test_visits_are_the_same_again_kept_and_independent_of_the_jobs(tmp_path: Path) -> None:
    people = toy_people(3)
    one, other = (simulate_visits(people, 8, tmp_path / str(jobs), 1, jobs) for jobs in (1, 2))
    np.testing.assert_array_equal(one.values, other.values)
    torch.testing.assert_close(one.quantiles, other.quantiles)
    written = (tmp_path / "1" / "scans.npy").stat().st_mtime_ns
    again = simulate_visits(people, 8, tmp_path / "1", 1)
    assert (tmp_path / "1" / "scans.npy").stat().st_mtime_ns == written
    np.testing.assert_array_equal(again.values, one.values)
    assert not np.array_equal(simulate_visits(people, 8, tmp_path / "seed", 2).quantiles, one.quantiles)


def test_the_rim_of_a_mask_holds_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On each scanner another share of another level; it falls with the depth, and two voxels below nothing is left."""
    quiet(monkeypatch)
    monkeypatch.setattr(visit_volumes, "RIM_SHARE", 0.8)
    people = toy_people(3)
    visits = simulate_visits(people, 9, tmp_path, 1)
    assert (visits.rim.reshape(3, 3, 2) == visits.rim.reshape(3, 3, 2)[:, :1]).all()
    assert 0 < visits.rim[:, 0].min() < visits.rim[:, 0].max() <= 0.8
    person, levels = people[0], np.array((0.2, 0.5, 0.7), np.float32)
    plain, rimmed = (person.image(levels, 0, np.array(rim), slice(None)) for rim in ((0.0, 0.3), (0.6, 0.3)))
    outermost = person.depth == 1
    np.testing.assert_allclose(rimmed[outermost], 0.4 * plain[outermost] + 0.6 * 0.3, atol=1e-6)
    deep = person.depth >= 3
    assert np.abs(rimmed - plain)[deep].max() < 0.6 * np.exp(-2 / 0.7) * 0.5
    some = np.flatnonzero(outermost)[:5]
    np.testing.assert_array_equal(person.image(levels, 0, np.array((0.6, 0.3)), some), rimmed[some])


def test_fields_vary_the_scan_smoothly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a person of one tissue: nothing but the field is left."""
    quiet(monkeypatch)
    monkeypatch.setattr(visit_volumes, "RESIDUAL", 0.1)
    flat = [
        replace(p, parts=np.stack([0 * p.parts[:, 0], 0 * p.parts[:, 0], 0 * p.parts[:, 0] + 1], axis=1))
        for p in toy_people(2)
    ]
    visits = simulate_visits(flat, 20, tmp_path, 1)
    spread = [float(np.std(visits.scan(number).astype(float))) for number in range(20)]
    assert max(spread) > 0.01 > 0.001 > min(spread)
    assert max(np.ptp(visits.scan(number).astype(float)) for number in range(20)) < 2 * 0.1 * 0.75
