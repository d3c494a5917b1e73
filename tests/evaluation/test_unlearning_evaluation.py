from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from imunity_bids.cli import evaluate
from imunity_bids.evaluation import unlearning, unlearning_experiments, unlearning_tables
from imunity_bids.evaluation.unlearning_cohort import (
    COIL,
    Clinic,
    by_age,
    everywhere,
    load_or_make,
    sex_by_age,
    sex_by_site,
    somewhere,
)
from imunity_bids.evaluation.unlearning_dann import Dann
from imunity_bids.evaluation.unlearning_methods import DANN, NORMAL, PER_SITE, QUICK, UNLEARNED
from imunity_bids.simulation.cohort import Member, draw_traits
from imunity_bids.unlearning.fit import Schedule
from imunity_bids.unlearning.networks import SiteHead
from imunity_bids.unlearning.trainer import Nuisance
from tests.unlearning.toys import discs, network, squared

TINY = replace(
    QUICK,
    spacing_mm=12.0,
    width=4,
    schedule=Schedule(4, pretrain=2, steps=2, every=1, patience=1),
    probe_seeds=1,
    sites=4,
    slices=2,
)


def members(count: int, maps: str = "abcd") -> list[Member]:
    """Blocks of white in gray in CSF."""
    rng = np.random.default_rng(0)
    fractions = torch.zeros(3, 14, 16, 12, dtype=torch.uint8)
    fractions[0, 1:13, 1:15, 1:11] = 255
    for inner, (tissue, margin) in enumerate(((1, 3), (2, 4))):
        block = (slice(margin, 14 - margin), slice(margin, 16 - margin), slice(margin, 12 - margin))
        fractions[(slice(None), *block)] = 0
        fractions[(tissue, *block)] = 255 - inner
    names = [f"{maps[n % len(maps)]}-{n}" for n in range(count)]
    return [Member(name, name[0], draw_traits(rng), fractions) for name in names]


@pytest.fixture
def setting(tmp_path: Path) -> unlearning_experiments.Setting:
    clinic = Clinic(6, TINY.spacing_mm)
    keep = unlearning.partial(unlearning.plot_features, tmp_path)
    return unlearning_experiments.Setting(members(40), members(8), members(12, "xyz"), clinic, TINY, keep)


def test_who_is_where() -> None:
    rng, people = np.random.default_rng(1), members(400)
    assert np.bincount([v.site for v in somewhere(people, (0, 3), rng)]).tolist() == [200, 0, 0, 200]
    for visit in by_age(people, (0, 1), 10, 50, rng):
        age = visit.member.traits.age
        assert abs(age - 50) <= 5 or visit.site == (age > 50)
    men = [v.member.traits.sex == "M" for v in sex_by_site(people, (0, 1), 0.8, rng) if v.site == 0]
    assert np.mean(men) == pytest.approx(0.8, abs=0.07)
    biased = sex_by_age(people, 0.8, 50, rng)
    women = [m.traits.sex == "F" for m in biased if m.traits.age < 50]
    assert np.mean(women) == pytest.approx(0.8, abs=0.07)
    assert len({(v.member.name, v.site) for v in everywhere(people, (0, 1))}) == 800


def test_a_site_has_its_own_coil_for_everybody() -> None:
    clinic, shape = Clinic(2, TINY.spacing_mm), (14, 16, 12)
    first, again, second = (clinic._coil(site, shape) for site in (0, 0, 1))
    assert torch.equal(first, again)
    assert abs(np.corrcoef(first.flatten(), second.flatten())[0, 1]) < 0.9
    assert first.log().abs().max() == pytest.approx(COIL, rel=1e-4)
    person = members(1)[0]
    assert clinic(person, 0).float().mean().abs() < 1e-2  # standardised after the coil
    assert not torch.allclose(clinic(person, 0).float(), clinic(person, 1).float(), atol=0.3)


def test_a_cohort_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = members(3)
    monkeypatch.setattr("imunity_bids.evaluation.unlearning_cohort.make_cohort", lambda *_: made)
    load_or_make(tmp_path, tmp_path, 3, 3.0, 1, 1)
    monkeypatch.setattr("imunity_bids.evaluation.unlearning_cohort.make_cohort", lambda *_: pytest.fail("made again"))
    again = load_or_make(tmp_path, tmp_path, 3, 3.0, 1, 1)
    assert [(m.name, m.label_map, m.traits) for m in again] == [(m.name, m.label_map, m.traits) for m in made]
    assert torch.equal(again[2].fractions, made[2].fractions)


def test_dann_moves_the_encoder_away_from_the_site() -> None:
    """Its gradient in the encoder is that of the main loss minus that of the classifier."""
    plain, batch = network("site"), discs(8, 1)
    dann = Dann(plain.encoder, plain.head, squared, [Nuisance("site", SiteHead(6, 2).eval())])
    weight = dann.encoder[0].weight
    features = dann.encoder(batch.inputs)
    site_loss = torch.nn.functional.cross_entropy(dann.nuisances[0].head(features), batch.site)
    means = [squared(dann.head(features), batch.target)[batch.site == s].mean() for s in (0, 1)]
    expected = torch.autograd.grad(sum(means) - site_loss, weight)[0]
    dann.step(batch)
    assert torch.allclose(weight.grad, expected, atol=1e-5)


def test_experiments_have_the_papers_columns(setting: unlearning_experiments.Setting, tmp_path: Path) -> None:
    rows = list(unlearning_experiments.age_on_scanners(setting))
    assert [row["method"] for row in rows] == 2 * [NORMAL, PER_SITE, UNLEARNED, DANN]
    assert all(len(row["error"]) == 3 for row in rows)  # the scanner that was not trained on, too
    assert rows[0]["site"]["chance"] == pytest.approx(1 / 2)
    assert rows[0]["relatives"]["site"]["persons"] == 8
    assert unlearning._flat(rows[0])["site of relatives"] == rows[0]["relatives"]["site"]["accuracy"]
    assert rows[-1]["site"]["chance"] == pytest.approx(1 / 3)
    assert len(list(tmp_path.glob("tsne_a_*.png"))) == 4


@pytest.mark.parametrize(
    ("experiment", "methods"),
    [
        ("age_trained_on_one", 3 * [NORMAL]),
        ("many_sites", [NORMAL, UNLEARNED]),
        ("age_as_confound", [NORMAL, UNLEARNED]),
    ],
)
def test_the_other_experiments_run(
    setting: unlearning_experiments.Setting, experiment: str, methods: list[str]
) -> None:
    wide = replace(setting, scale=replace(TINY, schedule=replace(TINY.schedule, batch=8)))
    rows = list(getattr(unlearning_experiments, experiment)(wide))
    assert [row["method"] for row in rows] == methods
    assert all(np.isfinite(list(row["error"].values())).all() for row in rows)


def test_subsets_of_the_biased_experiments(setting: unlearning_experiments.Setting) -> None:
    methods = [row["method"] for row in unlearning_experiments.age_overlap(setting, (40,))]
    assert methods == [NORMAL, "unlearned on all", "unlearned on the overlap"]
    rows = list(unlearning_experiments.sex_as_confound(setting, ("age",)))
    assert rows[-1]["method"] == "unlearned on a balanced subset"
    assert rows[-1]["sex"]["chance"] == 0.5


def test_segmentation_places_and_missing_labels(setting: unlearning_experiments.Setting) -> None:
    rows = list(unlearning_experiments.segmentation(setting, (0,)))
    assert [row["method"] for row in rows[:4]] == [NORMAL, "unlearned at A", "unlearned at B", "unlearned at A+B"]
    samples, _ = unlearning_experiments._slice_samples(
        setting, somewhere(setting.training, (0, 3), setting.rng("g")), 3
    )
    second = samples.site == 3
    assert samples.labelled[~second].all()
    assert samples.labelled[second].sum() == 3 * TINY.slices


def table(file: Path) -> Path:
    rng = np.random.default_rng(0)
    rows = 90
    age, site = rng.uniform(20, 80, rows), np.arange(rows) % 3
    features = rng.standard_normal((rows, 5)) + np.outer(age / 20, np.ones(5)) + 3 * np.eye(5)[site]
    columns = {f"f_{number}": features[:, number] for number in range(5)}
    people = {"subject": [f"s{n // 2}" for n in range(rows)], "site": [f"s{n}" for n in site], "age": age, "sex": "F"}
    pd.DataFrame(people | columns).to_csv(file, index=False)
    return file


def test_tables_end_to_end_and_an_experiment_is_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unlearning, "_for_tables", lambda scale: replace(TINY, schedule=Schedule(16, 60, 20, 10, 2)))
    file = table(tmp_path / "toy.csv")
    assert evaluate.main(["unlearning", str(tmp_path / "out"), "--quick", "--tables", str(file)]) == 0
    rows = json.loads((tmp_path / "out" / "unlearning.json").read_text())
    assert [row["method"] for row in rows] == ["age and sex alone", NORMAL, UNLEARNED, DANN]
    assert rows[1]["site"]["accuracy"] > 0.8
    assert all(abs(row["permuted"]) < 0.2 for row in rows[1:])
    flat = pd.read_csv(tmp_path / "out" / "unlearning.tsv", sep="\t")
    assert {"error", "site", "site interval", "site chance", "site shuffled"} <= set(flat)
    monkeypatch.setattr(unlearning_tables, "cross_validated", lambda *_: pytest.fail("run again"))
    assert evaluate.main(["unlearning", str(tmp_path / "out"), "--quick", "--tables", str(file)]) == 0


def test_nothing_to_evaluate_on(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert evaluate.main(["unlearning", str(tmp_path)]) == 64
    assert "--maps, --tables or --derivatives" in capsys.readouterr().err
