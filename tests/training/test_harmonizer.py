"""Training of one axis of our generator: it learns, it resumes, head before confusion."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("monai", reason="training needs the extra `train`")

from imunity_bids.errors import DataUnusable
from imunity_bids.models.quantiles import match
from imunity_bids.training import harmonizer
from imunity_bids.training.biology import Feature
from imunity_bids.training.harmonizer import CurveWeights, Data, build_networks, run_batch, train_harmonizer, update
from imunity_bids.unlearning.losses import confusion_loss, domain_loss
from imunity_bids.unlearning.tasks import column_task
from tests.training.toys import small_volumes, toy_data, toy_setup


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the trainer catches it."""


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    small_volumes(monkeypatch)
    monkeypatch.setattr(harmonizer, "VALIDATION_BATCHES", 3)


@pytest.fixture
def data(tmp_path: Path) -> Data:
    return toy_data(tmp_path / "data", sites=2)


def rows_of(folder: Path) -> list[dict[str, float]]:
    return torch.load(folder / "last.pt", weights_only=True)["rows"]


def test_it_learns_more_than_matching_knows(tmp_path: Path) -> None:
    """Two persons with other shares of white matter: matching takes over the shares, which a network sees through."""
    data = toy_data(tmp_path / "data", count=120)
    train_harmonizer(toy_setup(tmp_path / "run", steps=100, every=50, rate=1e-2), data)
    first, last = rows_of(tmp_path / "run")
    assert last["matching"] == first["matching"] < last["untouched"]
    assert last["held_out"] < 0.97 * last["matching"]  # 0.0384 and 0.0405 seen
    assert last["error"] < first["error"]
    assert last["expected"] == pytest.approx(last["curve"], rel=0.25)  # it names the error that it learned from
    assert not {"site", "confusion", "discriminator"} & set(last)


def test_a_training_that_diverged_says_so(tmp_path: Path, data: Data) -> None:
    with pytest.raises(DataUnusable, match=r"diverged before step 2: lower --rate"):
        train_harmonizer(toy_setup(tmp_path / "run", rate=1e30), data)


@pytest.mark.parametrize("killed_at", [1, 7], ids=["after the pretraining", "after a checkpoint"])
def test_a_killed_run_goes_on_to_the_same_weights(tmp_path: Path, data: Data, killed_at: int) -> None:
    def kill(step: int) -> None:
        if step == killed_at:
            raise Killed

    weights = CurveWeights(adversarial=0.01)
    train_harmonizer(toy_setup(tmp_path / "whole", weights=weights), data)
    setup = toy_setup(tmp_path / "killed", weights=weights)
    with pytest.raises(Killed):
        train_harmonizer(setup, data, watch=kill)
    assert (setup.output / "last.pt").exists() == (killed_at > setup.every)
    train_harmonizer(setup, data)
    whole, resumed = (torch.load(tmp_path / name / "last.pt", weights_only=True) for name in ("whole", "killed"))
    assert set(whole["modules"]) == {"generator", "site_head", "discriminator"}
    for module in whole["modules"]:
        for name, value in whole["modules"][module].items():
            assert torch.equal(value, resumed["modules"][module][name]), name
    for name, value in whole["average"].items():
        assert torch.equal(value, resumed["average"][name]), name
    assert [row["held_out"] for row in resumed["rows"]] == [row["held_out"] for row in whole["rows"]]


def test_another_seed_is_another_training(tmp_path: Path, data: Data) -> None:
    weights = []
    for seed in (1, 2):
        best = train_harmonizer(toy_setup(tmp_path / str(seed), steps=2, every=2, seed=seed), data)
        weights.append(torch.load(best, weights_only=True)["weights"])
    assert not all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_training_starts_from_given_weights(tmp_path: Path, data: Data) -> None:
    best = train_harmonizer(toy_setup(tmp_path / "first", steps=1), data)
    after = train_harmonizer(toy_setup(tmp_path / "second", steps=1, start=best, rate=1e-9), data)
    after = torch.load(after, weights_only=True)["weights"]
    for name, value in torch.load(best, weights_only=True)["weights"].items():
        torch.testing.assert_close(after[name], value, atol=1e-7, rtol=0)


def test_the_head_comes_first_and_the_encoder_is_confused_by_the_updated_head(tmp_path: Path, data: Data) -> None:
    setup = toy_setup(tmp_path, rate=0.05, weights=CurveWeights(adversarial=0.01))
    torch.manual_seed(0)
    networks = build_networks(setup, data)
    order = []
    for name, optimiser in networks.optimisers.items():
        optimiser.register_step_post_hook(lambda *_, name=name: order.append(name))
    before, head_before = deepcopy(networks.generator).eval(), deepcopy(networks.site_head)
    numbers = update(networks, setup, data, 5)

    assert order == ["site_head", "generator", "discriminator"]
    g = setup.random(5)
    batch = data.visits.batch(g)
    real = data.real.batch(5, len(batch.quantiles), g)
    assert real.site.tolist() == [0, 0, 1, 1]
    with torch.no_grad():
        features = run_batch(before, batch, real).real.anatomy.mean
        # contrast codes are sampled in training: their noise is below 0.01
        assert numbers["site"] == pytest.approx(domain_loss(head_before(features), real.site).item(), rel=0.01)
        confused = confusion_loss(networks.site_head(features)).item()
        assert confused != pytest.approx(confusion_loss(head_before(features)).item(), rel=0.02)
    assert numbers["confusion"] == pytest.approx(confused, rel=0.01)


def test_without_unlearning_there_is_no_site_head(tmp_path: Path, data: Data) -> None:
    train_harmonizer(toy_setup(tmp_path, unlearn=False, steps=1), data)
    assert not {"site", "confusion"} & set(rows_of(tmp_path)[0])


def test_a_feature_to_keep_trains_its_head_together_with_the_encoder(tmp_path: Path) -> None:
    feature = Feature(*column_task("age", "regression", ["20", "40", "60"]))
    data = toy_data(tmp_path / "data", sites=1, features=(feature,))
    setup = toy_setup(tmp_path / "run", steps=2, every=2)
    torch.manual_seed(setup.seed)
    before = deepcopy(build_networks(setup, data).modules["biology"].state_dict())
    train_harmonizer(setup, data)
    last = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    assert 0 < last["rows"][0]["biological"] < 3  # guessing the mean gives 2/3 in the mean
    assert all(not torch.equal(value, last["modules"]["biology"][name]) for name, value in before.items())
    assert "confusion" not in last["rows"][0]  # one site


def test_the_curve_of_a_pair_is_that_of_its_contrasts(tmp_path: Path, data: Data) -> None:
    """An untrained generator matches histograms; in every row of the batch, those of its own pair."""
    networks = build_networks(toy_setup(tmp_path), data)
    batch = data.visits.batch(torch.Generator().manual_seed(3))
    with torch.no_grad():
        forward = run_batch(networks.generator.eval(), batch)
    matched = match(batch.values[batch.source], batch.quantiles[batch.source], batch.reference @ batch.quantiles)
    assert (forward.curved - matched.clamp(0.004, 1)).abs().max() < 0.01
    persons = data.visits.visits.person
    assert len(batch.source) > 0 and len(persons) == 18


def test_bfloat16_learns_nearly_the_same(tmp_path: Path, data: Data) -> None:
    """8 bits of mantissa: losses within some per cent, and weights kept in float32."""
    last = {}
    for precision in ("float32", "bfloat16"):
        best = train_harmonizer(toy_setup(tmp_path / precision, precision=precision, steps=2, every=2), data)
        last[precision] = rows_of(tmp_path / precision)[-1]
    assert {value.dtype for value in torch.load(best, weights_only=True)["weights"].values()} == {torch.float32}
    for name in ("levels", "curve", "site"):
        assert last["float32"][name] == pytest.approx(last["bfloat16"][name], rel=0.05), name


def test_the_loss_of_errors_is_least_at_their_mean() -> None:
    """log(e) + error / e, as of an exponential distribution."""
    errors = torch.from_numpy(np.random.default_rng(0).exponential(0.03, 100_000))
    scales = torch.linspace(0.01, 0.06, 101, dtype=torch.float64)
    likelihood = (scales.log()[:, None] + errors / scales[:, None]).mean(dim=1)
    assert scales[likelihood.argmin()] == pytest.approx(0.03, abs=0.001)


def test_weights_of_zero_leave_their_parts_out(tmp_path: Path, data: Data) -> None:
    nothing = replace(CurveWeights(), curve=0, levels=0, error=0, kl=0, confusion=0)
    best = train_harmonizer(toy_setup(tmp_path, steps=1, weights=nothing), data)
    torch.manual_seed(1)
    untouched = build_networks(toy_setup(tmp_path), data).generator.state_dict()
    for name, value in torch.load(best, weights_only=True)["weights"].items():
        assert torch.equal(value, untouched[name]), name
