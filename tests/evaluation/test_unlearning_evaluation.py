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
from imunity_bids.evaluation.unlearning_methods import DANN, NORMAL, PER_SITE, QUICK, UNLEARNED, VOLUMES
from imunity_bids.evaluation.unlearning_orderings import orderings
from imunity_bids.simulation.cohort import Member, draw_traits
from imunity_bids.unlearning.fit import Schedule
from imunity_bids.unlearning.networks import FEATURES, SiteHead
from imunity_bids.unlearning.trainer import Nuisance
from tests.unlearning.toys import discs, network, squared

TINY = replace(
    VOLUMES,
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
    rows = list(unlearning_experiments.age_on_scanners(setting, unlearning_experiments.PAIR))
    rows += unlearning_experiments.age_on_scanners(setting)
    assert [row["method"] for row in rows] == 2 * [NORMAL, PER_SITE, UNLEARNED, DANN]
    assert claims(a=rows[4:]) == ["a", "a"]
    assert all(len(row["error"]) == 3 for row in rows)  # the scanner that was not trained on, too
    assert rows[0]["site"]["chance"] == pytest.approx(1 / 2)
    assert rows[0]["relatives"]["site"]["persons"] == 8
    assert unlearning._line(rows[:1])["site of relatives"] == rows[0]["relatives"]["site"]["accuracy"]
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
    wide = list(unlearning_experiments.age_overlap(setting, 40))
    assert claims(c=wide) == ["c", "c"]
    assert [row["method"] for row in wide] == [NORMAL, "unlearned on all", "unlearned on the overlap"]
    rows = [list(unlearning_experiments.sex_as_confound(setting, follows)) for follows in ("age", "site", None)]
    assert [part[-1]["method"] for part in rows] == 2 * ["unlearned on a balanced subset"] + ["unlearned on all"]
    assert rows[0][-1]["sex"]["chance"] == 0.5
    assert claims(e=rows[0]) == ["e"]


def test_segmentation_places_and_missing_labels(setting: unlearning_experiments.Setting) -> None:
    rows = list(unlearning_experiments.segmentation(setting))
    assert [row["method"] for row in rows] == [NORMAL, "unlearned at A", "unlearned at B", "unlearned at A+B"]
    few = list(unlearning_experiments.segmentation(setting, ("", "A"), 0))
    assert claims(g=rows, g_0=few) == ["g", "g-0"]
    assert {row["condition"] for row in few} == {"0 labelled persons on MPRAGE-3T"}
    samples, _ = unlearning_experiments._slice_samples(
        setting, somewhere(setting.training, (0, 3), setting.rng("g")), 3
    )
    second = samples.site == 3
    assert samples.labelled[~second].all()
    assert samples.labelled[second].sum() == 3 * TINY.slices


def claims(**rows: list[dict]) -> list[str]:
    """What is claimed of experiments, given their rows; raises where a claim names a method that they do not have."""
    named = [{"experiment": name.replace("_", "-"), "seed": 1, **row} for name, part in rows.items() for row in part]
    return [line["experiment"] for line in orderings(named)]


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
    scale = replace(TINY, features=FEATURES, schedule=Schedule(16, 40, 10, 10, 2))
    monkeypatch.setattr(unlearning, "_for_tables", lambda _: scale)
    monkeypatch.setattr(unlearning, "QUICK", replace(QUICK, seeds=2))
    file = table(tmp_path / "toy.csv")
    assert evaluate.main(["unlearning", str(tmp_path / "out"), "--quick", "--tables", str(file)]) == 0
    rows = json.loads((tmp_path / "out" / "unlearning.json").read_text())
    assert [row["method"] for row in rows] == 2 * ["age and sex alone", NORMAL, UNLEARNED, DANN]
    assert [row["seed"] for row in rows] == 4 * [1] + 4 * [2]
    assert rows[1]["site"]["accuracy"] > 0.8
    assert all(abs(row.get("permuted", 0)) < 0.2 for row in rows)
    flat = pd.read_csv(tmp_path / "out" / "unlearning.tsv", sep="\t")
    assert len(flat) == 4  # means over seeds
    assert {"error", "error seeds", "site", "site seeds", "site interval", "site chance", "site shuffled"} <= set(flat)
    monkeypatch.setattr(unlearning_tables, "cross_validated", lambda *_: pytest.fail("run again"))
    assert evaluate.main(["unlearning", str(tmp_path / "out"), "--quick", "--tables", str(file)]) == 0


def line(seed: int, method: str, error: float, site: float, experiment: str = "a") -> dict:
    told = {"accuracy": site, "low": site - 0.1, "high": site + 0.1, "chance": 1 / 3, "shuffled": 0.3}
    errors = {"one": error - 1, "other": error + 1}
    return {"experiment": experiment, "seed": seed, "condition": "c", "method": method, "error": errors, "site": told}


def test_seeds_are_averaged_and_their_reach_is_told() -> None:
    rows = unlearning.summary([line(1, NORMAL, 10.0, 0.8), line(2, NORMAL, 12.0, 0.9), line(1, UNLEARNED, 11.0, 0.4)])
    assert [(row["method"], row["error"]) for row in rows] == [(NORMAL, 11.0), (UNLEARNED, 11.0)]
    assert rows[0]["error one"] == 10.0
    assert (rows[0]["error seeds"], rows[0]["site seeds"]) == ("10 to 12", "0.8 to 0.9")
    assert rows[0]["site"] == pytest.approx(0.85)
    assert rows[0]["site interval"] == "0.75 to 0.95"
    assert "seed" not in rows[0]


def test_orderings_hold_seed_by_seed() -> None:
    rows = [line(1, NORMAL, 10.0, 0.8), line(1, UNLEARNED, 10.6, 0.40)]
    rows += [line(2, NORMAL, 10.0, 0.8), line(2, UNLEARNED, 10.2, 0.45)]
    near, cheap = orderings(rows)
    assert (near["holds"], cheap["holds"], near["seeds"]) == (1, 1, 2)
    assert near["margin"] == pytest.approx(1 / 3 + 0.08 - 0.425)
    assert (cheap["least"], cheap["most"]) == pytest.approx((-0.1, 0.3))
    unlabelled = [line(1, NORMAL, 0.3, 0.5, "g-0"), line(1, "unlearned at A", 0.2, 0.5, "g-0")]
    assert orderings(unlabelled)[0]["margin"] == pytest.approx(0.1)
    assert orderings([]) == []


def test_a_simulated_experiment_from_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each seed judges label maps of its own; what is there is not run again."""
    seen = []

    def experiment(setting: unlearning_experiments.Setting) -> list[dict]:
        seen.append({member.label_map for member in setting.judges})
        return [line(setting.scale.schedule.seed, NORMAL, 10.0, 0.8, "b")]

    tiny = replace(TINY, persons=60, judged=20, held_out_maps=2)
    monkeypatch.setattr(unlearning, "FULL", replace(QUICK, volumes=tiny, slices=tiny, seeds=2))
    monkeypatch.setattr(unlearning, "EXPERIMENTS", {"b": experiment})
    monkeypatch.setattr(unlearning, "MORE", {})
    monkeypatch.setattr("imunity_bids.evaluation.unlearning_cohort.make_cohort", lambda *_: members(60, "abcdef"))
    for _ in range(2):
        table = unlearning.evaluate_unlearning(tmp_path, maps=tmp_path)
    assert len(seen) == 2
    assert seen[0] != seen[1]
    assert list(table.error) == [10.0]


def test_nothing_to_evaluate_on(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert evaluate.main(["unlearning", str(tmp_path)]) == 64
    assert "--maps, --tables or --derivatives" in capsys.readouterr().err
