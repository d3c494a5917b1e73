from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from imunity_bids.errors import DataUnusable, Usage
from imunity_bids.unlearning.subsets import balanced, bins_of, overlap, queried, refuse_confounded


def test_overlap_is_what_all_sites_share() -> None:
    ages, sites = np.array([20, 50, 60, 40, 55, 80, np.nan]), np.array([0, 0, 0, 1, 1, 1, 1])
    assert overlap(ages, sites).tolist() == [False, True, True, True, True, False, False]
    with pytest.raises(Usage, match="no range"):
        overlap(np.array([1.0, 2, 8, 9]), np.array([0, 0, 1, 1]))


def test_balanced_within_each_stratum() -> None:
    rng = np.random.default_rng(0)
    old = rng.random(300) < 0.5
    sex = np.where(rng.random(300) < np.where(old, 0.8, 0.2), "M", "F")
    chosen = balanced(sex, old)
    for stratum in (False, True):
        counts = [np.sum(chosen & (old == stratum) & (sex == s)) for s in "FM"]
        assert counts[0] == counts[1] == min(np.sum((old == stratum) & (sex == s)) for s in "FM")
    with pytest.raises(Usage, match="nowhere"):
        balanced(np.array(["F", "M"]), np.array([0, 1]))


def test_bins_of_numbers_and_of_words() -> None:
    assert np.bincount(bins_of(np.linspace(20, 80, 100))).tolist() == [20] * 5
    assert bins_of(np.array(["a", "b", "a"])).tolist() == [0, 1, 0]


def test_a_query_on_participants() -> None:
    table = pd.DataFrame({"age": [20, 50], "group": ["patient", "control"]}, index=["sub-1", "sub-2"])
    assert queried(table, "group == 'control' and age > 30").tolist() == [False, True]
    for wrong in ("nonsense ==", "height > 3", "age > 90"):
        with pytest.raises(Usage, match="--unlearn-on"):
            queried(table, wrong)


def test_fully_confounded_is_refused() -> None:
    sites = np.array(["A", "A", "B", "B"])
    with pytest.raises(DataUnusable, match="fully confounded"):
        refuse_confounded(np.array(["patient", "patient", "control", "control"]), sites)
    with pytest.raises(DataUnusable, match="at B is seen at A"):
        refuse_confounded(np.array([20.0, 30, 60, 70]), sites)


def test_one_link_is_enough_and_may_go_through_another_site() -> None:
    refuse_confounded(np.array(["patient", "control", "control", "control"]), np.array(["A", "A", "B", "B"]))
    chain = np.array([20.0, 25, 30, 35, 28, 32, 48, 52, 50, 45, 60, 70])
    refuse_confounded(chain, np.repeat(["A", "B", "C"], 4))
