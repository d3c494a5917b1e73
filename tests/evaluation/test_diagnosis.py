"""Experiments 2 and 3 on tiny cohorts: a site shifts some features, a diagnosis another."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from imunity_bids.cli.evaluate import main
from imunity_bids.errors import DataUnusable, Usage
from imunity_bids.evaluation import cohort_methods, diagnosis
from imunity_bids.evaluation.cohort_folds import BY_PERSON, NEW_SITES, auc, judge, split
from imunity_bids.evaluation.cohort_methods import COMBAT, DANN, METHODS, NONE, UNLEARNED, methods_named
from imunity_bids.evaluation.cohort_rows import Rows, read_table, rows_of
from imunity_bids.evaluation.cohort_scores import draws_of, mean_error, ordered_pairs, with_interval
from imunity_bids.evaluation.site_combinations import auc_by_combination, combinations, summary_by_number
from imunity_bids.unlearning.fit import Schedule

SITES = 4
EFFECT, SHIFT = 2.0, 6.0  # in standard deviations of a feature within a site


def table(rng: np.random.Generator, persons: int = 24) -> pd.DataFrame:
    """So many persons of each site; the first feature tells patients, the next two the site, three are noise."""
    count = SITES * persons
    site, ill = np.arange(count) % SITES, rng.random(count) < 0.5
    features = rng.standard_normal((count, 6))
    features[:, 0] += EFFECT * ill
    features[:, 1:3] += SHIFT * np.stack([site, site % 2], axis=1)
    people = {"subject": [f"p{n}" for n in range(count)], "site": [f"s{n}" for n in site]}
    people |= {"age": rng.uniform(20, 60, count), "sex": rng.choice(["F", "M"], count)}
    people |= {"dx": np.where(ill, "patient", "control")}
    return pd.DataFrame(people | {f"f_{n}": features[:, n] for n in range(6)})


@pytest.fixture
def people(rng: np.random.Generator) -> pd.DataFrame:
    return table(rng)


@pytest.fixture
def rows(people: pd.DataFrame) -> Rows:
    return rows_of(people, "dx")


def test_pairs_in_order_are_the_area_under_the_curve(rng: np.random.Generator) -> None:
    answers, ill = np.round(rng.standard_normal(60), 1), rng.random(60) < 0.4
    answers[ill] += 0.5
    weights = np.stack([np.ones(60), rng.integers(0, 3, 60)]).astype(float)
    found = ordered_pairs(answers, ill, np.zeros(60), weights)
    assert found[0] == pytest.approx(roc_auc_score(ill, answers))  # ties, rounded to tenths, count half in both
    assert found[1] == pytest.approx(roc_auc_score(ill, answers, sample_weight=weights[1]))


def test_within_sites_a_site_with_more_patients_says_nothing() -> None:
    site = np.repeat([0, 1], 10)
    ill = np.tile(np.arange(10), 2) < np.where(site, 8, 2)
    ones = np.ones((1, 20))
    assert ordered_pairs(site.astype(float), ill, np.zeros(20), ones)[0] == pytest.approx(0.8)
    assert ordered_pairs(site.astype(float), ill, site, ones)[0] == 0.5
    assert np.isnan(ordered_pairs(site.astype(float), site > 0, site, ones)[0])


def test_draws_keep_rows_of_a_person_together() -> None:
    weights = draws_of(np.array(["a", "a", "b", "c"]), 50)
    assert (weights[0] == 1).all()
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[1:, 1:].sum(axis=1) == 3).all()
    errors = mean_error(np.array([1.0, 2.0, 3.0, 4.0]), np.zeros(4), weights)
    value, low, high = with_interval(errors)
    assert value == 2.5
    assert low < 2.5 < high


def test_a_table_becomes_rows(people: pd.DataFrame, tmp_path: Path) -> None:
    people.loc[0, "f_3"] = np.nan
    people.loc[1, "dx"] = np.nan
    people.loc[2:8, "site"] = "few"  # seven persons
    found = rows_of(people, "dx")
    assert len(found) == len(people) - 8
    assert found.classes == ("control", "patient")
    assert found.features[0, 3] == pytest.approx(people.loc[[0, *range(9, len(people))], "f_3"].median())
    assert found.covariates.shape[1] == 2
    assert rows_of(people, "age").covariates.shape[1] == 1  # the target is no covariate
    assert rows_of(people, "age").classes == ()
    with pytest.raises(Usage, match="has no column diagnosis"):
        rows_of(people, "diagnosis")
    with pytest.raises(Usage, match="has no columns g_"):
        rows_of(people, "dx", "g_*")
    with pytest.raises(DataUnusable, match="word is neither two values nor numbers"):
        rows_of(people.assign(word=people.subject), "word")
    people.drop(columns="site").to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(DataUnusable, match="has no column site"):
        read_table(tmp_path / "t.csv")


@pytest.mark.parametrize("scheme", [BY_PERSON, NEW_SITES])
def test_nobody_is_on_both_sides(rows: Rows, scheme: str) -> None:
    twice = replace(rows, person=np.char.add("p", (np.arange(len(rows)) // 2).astype(str)))  # at two sites each
    seen = np.zeros(len(rows), int)
    for known, left_out in split(twice, scheme, 4, seed=0):
        assert not set(twice.person[known]) & set(twice.person[left_out])
        assert scheme == BY_PERSON or not set(twice.site[known]) & set(twice.site[left_out])
        seen[left_out] += 1
    assert (seen == 1).all()


def test_few_persons_get_few_folds(rows: Rows) -> None:
    assert len(list(split(rows.take(np.arange(30)), BY_PERSON, 10, 0))) == 3  # ten persons in a fold
    with pytest.raises(DataUnusable, match="one of the two classes is gone"):
        list(split(replace(rows, target=(rows.site == "s0").astype(float)), NEW_SITES, 4, 0))


def test_sites_are_left_out_although_their_persons_are_everywhere(rows: Rows) -> None:
    """As simulated persons of one label map are: nobody would be left to learn from without all of a site's persons."""
    everywhere = replace(rows, person=np.array([f"m{number // SITES % 6}" for number in range(len(rows))]))
    judged = []
    for known, left_out in split(everywhere, NEW_SITES, 3, 0):
        for part in (everywhere.site, everywhere.person):
            assert not set(part[known]) & set(part[left_out])
        assert len(known) > 0.2 * len(rows)
        judged += left_out.tolist()
    assert sorted(judged) == list(range(len(rows)))


def test_combat_takes_the_site_and_leaves_the_diagnosis(rows: Rows) -> None:
    raw, combat = (judge(rows, METHODS[name], BY_PERSON, 3, seed=0) for name in (NONE, COMBAT))
    assert raw.told.mean(axis=1).max() > 0.95
    assert combat.told.mean(axis=1).max() < 0.5  # chance is 0.25; three folds of 96 persons leave some of it
    ones = np.ones((1, len(rows)))
    assert ordered_pairs(combat.answers, rows.target > 0, combat.fold, ones)[0] > 0.85
    shuffled = judge(rows, METHODS[NONE], BY_PERSON, 3, seed=0, shuffled=True)
    assert shuffled.told.mean() < 0.45
    assert 0.25 < ordered_pairs(shuffled.answers, rows.target > 0, shuffled.fold, ones)[0] < 0.75


def test_combat_is_fitted_on_training_rows_only(rows: Rows) -> None:
    known, left_out = next(split(rows, BY_PERSON, 3, 0))
    judged = rows.take(left_out)
    first = METHODS[COMBAT](rows.take(known), judged, 0)
    other = METHODS[COMBAT](rows.take(known), judged.showing(judged.features + 100), 0)
    np.testing.assert_array_equal(first.known, other.known)
    unaware = METHODS[COMBAT](rows.take(known), replace(judged, target=1 - judged.target), 0)
    np.testing.assert_array_equal(first.answers, unaware.answers)


def test_a_new_site_is_shifted_by_its_own_rows(rows: Rows) -> None:
    known, left_out = next(split(rows, NEW_SITES, 4, 0))
    found = METHODS[COMBAT](rows.take(known), rows.take(left_out), 0)
    gap = np.abs(found.known.mean(axis=0) - found.judged.mean(axis=0))[1:3]
    assert (gap < 0.5).all()  # the shift was 6 standard deviations


@pytest.mark.parametrize("name", [DANN, UNLEARNED])
@pytest.mark.parametrize("target", ["dx", "age"])
def test_networks_answer(name: str, target: str, people: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    schedule = Schedule(8, pretrain=4, steps=4, every=2, patience=1)
    monkeypatch.setattr(cohort_methods, "TABLES", replace(cohort_methods.TABLES, schedule=schedule))
    rows = rows_of(people, target)
    known, left_out = next(split(rows, NEW_SITES, 4, 0))
    found = METHODS[name](rows.take(known), rows.take(left_out), 0)
    assert found.answers.shape == (len(left_out),)
    assert np.isfinite(found.answers).all()
    assert found.known.shape == (len(known), found.judged.shape[1])
    if target == "age":
        assert 10 < found.answers.mean() < 70  # in years


def test_unknown_methods_are_said() -> None:
    with pytest.raises(Usage, match="--methods RAVEL: no such method; there are: age and sex alone, "):
        methods_named(["RAVEL"])


def test_combinations_are_all_or_so_many() -> None:
    found = list(combinations(list("abcdef"), 10))
    by_size = {size: [c for c in found if len(c) == size] for size in range(2, 7)}
    assert [len(set(by_size[size])) for size in by_size] == [10, 10, 10, 6, 1]
    assert all(list(names) == sorted(names) for names in found)


def test_the_best_combination_gains_most() -> None:
    rows = [
        {"sites": 2, "combination": name, "method": method, "auc": value}
        for name, before, after in (("a, b", 0.5, 0.7), ("a, c", 0.8, 0.75))
        for method, value in (("before", before), ("after", after))
    ]
    found = summary_by_number(pd.DataFrame(rows), "before").set_index("method")
    assert found.auc["after"] == pytest.approx(0.725)
    assert found.sd["before"] == pytest.approx(0.15)
    assert (found.best["after"], found["best before"]["after"], found["best combination"]["after"]) == (
        0.7,
        0.5,
        "a, b",
    )


def test_auc_of_every_combination(rows: Rows) -> None:
    found = auc_by_combination({NONE: (rows, METHODS[NONE])}, most=3, folds=3)
    assert found.groupby("sites").combination.nunique().to_dict() == {2: 3, 3: 3, 4: 1}
    assert found.auc.iloc[-1] == auc(rows, METHODS[NONE], 3, 0)


def test_the_command_on_a_table_goes_on_where_it_was(
    people: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people.rename(columns={"site": "center"}).to_csv(tmp_path / "t.csv", index=False)
    words = ["diagnosis", tmp_path / "out", "--table", tmp_path / "t.csv", "--target", "dx", "--features", "f_*"]
    words += ["--site-column", "center", "--methods", NONE, COMBAT, "site alone", "--folds", "3", "--seeds", "2"]
    words = [str(word) for word in words]
    assert main(words) == 0
    first = pd.read_csv(tmp_path / "out" / "diagnosis.tsv", sep="\t")
    assert (tmp_path / "out" / "diagnosis.png").stat().st_size > 5000
    found = json.loads((tmp_path / "out" / "diagnosis.json").read_text())
    assert len(found) == 5  # a new site's name says nothing
    by_method = {(row["scheme"], row["method"]): row for row in found}
    for scheme in (BY_PERSON, NEW_SITES):
        row = by_method[scheme, COMBAT]
        assert row["value"]["low"] < row["value"]["mean"] < row["value"]["high"]
        assert row["value"]["mean"] == pytest.approx(np.mean(row["seeds"]))
        assert row["value"]["mean"] > 0.8
    assert by_method[BY_PERSON, COMBAT]["site"]["accuracy"] < by_method[BY_PERSON, NONE]["site"]["accuracy"]
    assert by_method[BY_PERSON, NONE]["site"]["chance"] == 0.25

    def fail(*arguments: object) -> None:
        raise AssertionError("done before")

    monkeypatch.setattr(diagnosis, "judge", fail)
    assert main(words) == 0
    again = pd.read_csv(tmp_path / "out" / "diagnosis.tsv", sep="\t")
    pd.testing.assert_frame_equal(first.drop(columns="seconds"), again.drop(columns="seconds"))


@pytest.mark.parametrize(
    ("words", "code"), [([], 64), (["--table", "nowhere.csv"], 66), (["--table", "x.csv", "--folds", "1"], 64)]
)
def test_wrong_calls(words: list[str], code: int, tmp_path: Path) -> None:
    assert main(["diagnosis", str(tmp_path / "out"), *words]) == code
