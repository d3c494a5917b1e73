"""Visits as histograms only: what the histogram network learns from."""

from __future__ import annotations

import torch

from imunity_bids.simulation.protocols import tissue_levels
from imunity_bids.simulation.visit_histograms import partner, simulate_visits, truth
from tests.simulation.people import toy_person


def test_partners_are_each_others() -> None:
    assert partner(torch.arange(6)).tolist() == [1, 0, 3, 2, 5, 4]
    assert torch.equal(partner(partner(torch.arange(6))), torch.arange(6))


def test_visits_come_in_pairs_and_repeat() -> None:
    people = [toy_person(0, 0.5), toy_person(1, 0.7)]
    visits, again = simulate_visits(people, 20, 3), simulate_visits(people, 20, 3)
    for one, two in zip(visits, again, strict=True):  # columns, or the columns of the protocols
        assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert all(torch.equal(column[::2], column[1::2]) for column in visits.protocol)
    assert (visits.person[::2] != visits.person[1::2]).all()
    assert (visits.quantiles.diff(dim=1) >= 0).all()
    assert visits.quantiles.min() >= 0 and visits.quantiles.max() <= 1
    white = tissue_levels(visits.protocol, visits.t1, torch.tensor([0.8, 1.0, 1.2]))[:, 2]
    torch.testing.assert_close(white, torch.full_like(white, 0.7))


def test_the_truth_of_a_visit_on_its_own_scanner_is_the_visit_but_for_noise_and_fields() -> None:
    visits = simulate_visits([toy_person(0), toy_person(1)], 40, 3)
    here = torch.arange(40)
    partner_unit = visits.unit[partner(here)] / visits.unit  # the unit is that of the other person's visit
    mean, scatter = truth(visits, here, here)
    own = mean / partner_unit[:, None]
    middle = slice(10, 91)  # noise spreads the ends
    assert (own - visits.quantiles)[:, middle].abs().mean() < 0.03
    assert 0.005 < scatter[:, middle].mean() < 0.03  # noise and partial volume, of the order of the noise simulated


def test_a_person_who_is_alone_is_his_or_her_own_partner() -> None:
    visits = simulate_visits([toy_person(0)], 4, 1)
    assert visits.person.tolist() == [0] * 4


def test_a_person_with_more_white_matter_has_brighter_quantiles() -> None:
    visits = simulate_visits([toy_person(0, 0.6), toy_person(1, 0.75)], 20, 1)
    small, large = (visits.quantiles[visits.person == number].mean(dim=0) for number in (0, 1))
    middle = slice(30, 70)  # where the smaller brain is gray and the larger one is white
    assert (large - small)[middle].min() > 0
    assert (large - small)[middle].mean() > 0.03
