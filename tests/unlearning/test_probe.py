from __future__ import annotations

import numpy as np
import pytest

from imunity_bids.unlearning.probe import probe, probe_in_order


def features_of(sites: np.ndarray, shift: float, rng: np.random.Generator) -> np.ndarray:
    features = rng.standard_normal((len(sites), 6))
    features[:, 0] += shift * sites
    return features


def test_a_painted_site_is_found_and_shuffled_labels_are_not(rng: np.random.Generator) -> None:
    sites = np.arange(150) % 3
    found = probe(features_of(sites, 6.0, rng), sites, np.arange(150))
    assert found.accuracy > 0.97
    assert found.chance == pytest.approx(1 / 3)
    assert found.shuffled == pytest.approx(1 / 3, abs=0.09)
    assert found.low <= found.accuracy <= found.high
    assert len(found.seeds) == 5


def test_pure_noise_is_at_chance_within_the_interval(rng: np.random.Generator) -> None:
    sites = np.arange(200) % 2
    found = probe(features_of(sites, 0.0, rng), sites, np.arange(200), seeds=2)
    assert found.low < 0.5 < found.high
    assert 0.05 < found.high - found.low < 0.25


def test_what_is_not_linear_is_found_too(rng: np.random.Generator) -> None:
    sites = np.arange(300) % 2
    features = rng.standard_normal((300, 2))
    features[:, 0] = np.where(sites == 1, np.sign(features[:, 0]) * 3, 0.3 * features[:, 0])  # either far out, or not
    found = probe(features, sites, np.arange(300), seeds=2)
    assert found.accuracy > 0.9
    assert found.classifier == "network"


def test_a_person_is_never_on_both_sides(rng: np.random.Generator) -> None:
    """Four scans of each person that look like the person and say nothing of the site."""
    persons = np.repeat(np.arange(40), 4)
    sites = (np.arange(40) % 2)[persons]
    features = rng.standard_normal((40, 20))[persons] + 0.01 * rng.standard_normal((160, 20))
    assert probe(features, sites, persons, seeds=1).accuracy < 0.75
    assert probe(features, sites, np.arange(160), seeds=1).accuracy > 0.95  # what leaks when persons are not told apart


def test_the_large_site_does_not_decide(rng: np.random.Generator) -> None:
    sites = np.array([0] * 180 + [1] * 20)
    assert probe(np.zeros((200, 3)), sites, np.arange(200)).accuracy == pytest.approx(0.5)


def test_one_site_cannot_be_told_apart() -> None:
    with pytest.raises(ValueError, match="two sites"):
        probe(np.zeros((4, 2)), np.zeros(4), np.arange(4))


def test_a_person_at_both_of_two_small_sites() -> None:
    """The demo: four scans of three persons. Without the traveler and one other, one site is left to learn from."""
    features = np.random.default_rng(0).normal(size=(4, 3))
    found = probe(features, np.array(["A", "A", "B", "B"]), np.array(["1", "2", "2", "3"]))
    assert 0 <= found.accuracy <= 1
    assert (found.samples, found.persons) == (4, 3)


def test_the_same_persons_give_the_same_figures_in_any_order(rng: np.random.Generator) -> None:
    """A folder's name before the label, and rows as another command reads them; somebody was scanned twice."""
    sites = np.array(list("AABB" * 10))
    persons = np.array([f"sub-{number // 2 * 2 if number < 4 else number:02}" for number in range(40)])
    features = features_of(sites == "B", 2.0, rng)
    names = np.array([f"{site}/{person}" for site, person in zip(sites, persons, strict=True)])
    found = probe_in_order(features, sites, persons, seeds=1)
    order = np.roll(np.argsort(persons, kind="stable"), 20)  # scans of one person stay in the order of their files
    assert 0.6 < found.accuracy < 0.99
    again = probe_in_order(features[order], sites[order], names[order], seeds=1)
    assert again.persons == found.persons == 38
    assert (again.accuracy, again.low, again.shuffled) == (found.accuracy, found.low, found.shuffled)


def test_a_site_of_few_persons_is_left_out_and_one_site_is_no_question(rng: np.random.Generator) -> None:
    sites = np.array(list("AB" * 20 + "CCC"))
    persons, features = np.arange(43), features_of(sites == "B", 2.0, rng)
    found, without = (probe_in_order(features[:n], sites[:n], persons[:n], seeds=1) for n in (43, 40))
    assert found == without
    assert (found.sites, found.samples, found.chance) == (2, 40, 0.5)
    assert probe_in_order(features[::2], sites[::2], persons[::2], seeds=1) is None  # A, and two of C
