"""Persons out of brains, and their visits to scanners."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from imunity_bids.simulation import persons, scanners, visits
from tests.simulation.people import ball_brain, person_of, toy_person

EVEN = replace(scanners.SCANNERS[3], transmit=0.0, receive=0.0, noise=0.0)  # without blur


def test_parts_are_fractions_and_texture_between_neighbours_in_contrast() -> None:
    person = toy_person(0)
    level = np.array([0.2, 0.5, 0.7])
    darker = np.clip(person.fractions[0] + 0.5 * person.fractions[1], 0, 1)
    expected = np.tensordot(level, person.fractions, 1) + person.texture * (0.3 * darker + 0.2 * (1 - darker))
    np.testing.assert_allclose(np.tensordot(level, person.parts, 1), expected, atol=1e-6)


def test_the_truth_has_neither_noise_nor_field_and_a_visit_repeats() -> None:
    person = person_of(*ball_brain())
    scanner = scanners.SCANNERS[3]  # without blur
    scan, truth = visits.traveler(person, scanner, 1)
    again, _ = visits.traveler(person, scanner, 1)
    another, _ = visits.traveler(person, scanner, 2)
    white = ndimage.binary_erosion(person.fractions[2] > 0, iterations=2)
    assert np.ptp(truth[white]) < 1e-6
    assert truth[white].mean() == pytest.approx(0.7, abs=1e-6)
    assert scan[white].std() > 0.01
    assert np.array_equal(scan, again)
    assert not np.array_equal(scan, another)


def test_atropos_takes_a_brain_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    brain, mask = ball_brain()
    person = persons.take_apart("sub-1", nib.Nifti1Image(brain, np.eye(4)), mask)
    np.testing.assert_allclose(person.fractions.sum(0)[mask], 1, atol=1e-4)
    white = ndimage.binary_erosion(brain > 0.62, iterations=1)
    assert person.fractions[2][white].mean() > 0.95
    assert not list(tmp_path.iterdir())  # Atropos leaves three images a brain
    assert tempfile.tempdir == str(tmp_path)


def test_without_fields_and_noise_a_scan_is_its_truth() -> None:
    """Once white matter is brought to its level, which the truth has exactly."""
    person = toy_person(0)
    scan, truth = visits.traveler(person, EVEN, 1)
    assert np.median(truth[person.white]) == pytest.approx(0.7, abs=1e-6)
    np.testing.assert_allclose(scan * (0.7 / np.median(scan[person.white])), truth, atol=1e-6)


def test_a_person_has_the_same_t1_on_every_scanner_and_persons_differ() -> None:
    """Two scanners of one protocol: the same truth for one person, another one for another name."""
    person = toy_person(0)
    twin = replace(EVEN, name="twin", noise=0.01)
    truths = [visits.traveler(person, scanner, 1)[1] for scanner in (EVEN, twin)]
    np.testing.assert_array_equal(*truths)
    sibling = visits.traveler(replace(person, name="sibling"), EVEN, 1)[1]
    gray = person.fractions[1] > 0.99
    levels = [np.median(truth[gray]) for truth in (truths[0], sibling)]
    assert levels[0] != pytest.approx(levels[1], rel=1e-3)
    assert levels[0] == pytest.approx(levels[1], rel=0.1)  # T1 scatters by 3 %


def test_noise_is_rician() -> None:
    """Without signal its mean is σ · √(π / 2), with much signal its standard deviation is σ."""
    person = toy_person(0)
    noisy = replace(EVEN, noise=0.02)
    scan, truth = visits.traveler(person, noisy, 1)
    bright = (truth > 0.5) & person.mask
    assert (scan - truth)[bright].std() == pytest.approx(0.02, rel=0.03)  # 10,000 voxels
    assert (scan[person.mask] > 0).all()
    assert (scan[~person.mask] == 0).all()


def test_blur_does_not_bring_in_what_lies_outside_the_brain() -> None:
    person = person_of(*ball_brain())
    flat = replace(person, fractions=np.stack([0 * person.mask, 0 * person.mask, person.mask]).astype(np.float32))
    _, truth = visits.traveler(flat, replace(EVEN, fwhm_mm=(2.0, 2.0, 2.0)), 1)
    np.testing.assert_allclose(truth[person.mask], 0.7, atol=1e-3)


def test_a_visit_is_preprocessed_and_its_truth_is_its_own() -> None:
    """The truth's pure white matter is at 0.7, whatever was measured: a missed level is the scan's error."""
    person = toy_person(0)
    person = replace(person, core=ndimage.binary_erosion(person.fractions[2] > 0.9))
    scan, truth = visits.visit(person, scanners.SCANNERS[0], 1)
    assert np.median(scan[person.core]) == pytest.approx(0.7, abs=1e-4)
    assert np.median(truth[person.core]) == pytest.approx(0.7, abs=0.005)
    np.testing.assert_array_equal(truth, np.clip(visits.traveler(person, scanners.SCANNERS[0], 1)[1], 0, 1))
    assert scan.min() >= 0 and scan.max() <= 1
    assert (scan[~person.mask] == 0).all()


def test_with_a_template_a_visit_has_less_of_its_field() -> None:
    """Plain N4, which runs where no template is known, leaves more in the white matter of a strong field."""
    person = toy_person(0)
    strong = replace(EVEN, receive=0.7)
    white = ndimage.binary_erosion(person.fractions[2] > 0.9)
    left = [visits.visit(p, strong, 1).scan[white].std() for p in (person, replace(person, core=white))]
    assert left[1] < 0.6 * left[0]


def test_texture_keeps_nothing_smooth_of_the_base_scan() -> None:
    """A field that the base scan kept is no anatomy: seen again by every scanner, it would count as a right answer."""
    brain, mask = ball_brain()
    grid = np.linspace(-1, 1, len(brain))[:, None, None]
    person = persons.take_apart(
        "sub-1", nib.Nifti1Image((brain * np.exp(0.1 * grid)).astype(np.float32), np.eye(4)), mask
    )
    white = ndimage.binary_erosion(person.fractions[2] > 0.9, iterations=2)
    halves = [person.texture[white & (side * grid > 0)].mean() for side in (-1, 1)]
    assert abs(halves[1] - halves[0]) < 0.15  # with it 0.3 of the step between tissues
