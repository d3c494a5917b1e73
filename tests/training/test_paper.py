"""Training of one axis of the paper's generator: it learns, it resumes, it says when it diverged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("monai", reason="training needs the extra `train`")

from imunity_bids.errors import DataUnusable, Usage
from imunity_bids.models.paper import PaperArchitecture
from imunity_bids.training.losses import PRESETS
from imunity_bids.training.paper import train_paper
from tests.training.toys import toy_brains, toy_plan


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the trainer catches it."""


@pytest.mark.parametrize("sites", [2, 1])
def test_losses_fall(tmp_path: Path, sites: int) -> None:
    """Without adversary and SSIM, to be fast."""
    weights = replace(PRESETS["code"], adversarial=0, ssim=0)
    shape = PaperArchitecture(width=8)
    plan = toy_plan(tmp_path, architecture=shape, weights=weights, steps=75, every=25, batch=8)
    train_paper(plan, toy_brains(4, sites), sites, toy_brains(2, sites))
    rows = torch.load(tmp_path / "last.pt", weights_only=True)["rows"]
    assert [row["step"] for row in rows] == [25, 50, 75]
    assert rows[-1]["l1"] < 0.95 * rows[0]["l1"]  # 0.90 and 0.8 seen
    assert ("site" in rows[0]) == (sites > 1)
    best = torch.load(tmp_path / "best.pt", weights_only=True)
    assert best["step"] == min(rows, key=lambda row: row["held_out"])["step"]


def test_bfloat16_learns_nearly_the_same(tmp_path: Path) -> None:
    """8 bits of mantissa: the losses of every step within some per cent, and weights kept in float32."""
    last = {}
    for precision in ("float32", "bfloat16"):
        plan = toy_plan(tmp_path / precision, precision=precision, steps=4)
        train_paper(plan, toy_brains(4, 2), 2, toy_brains(2, 2))
        last[precision] = torch.load(plan.output / "last.pt", weights_only=True)["rows"][-1]
    for name in ("l1", "site", "ssim"):
        exact, rounded = (last[precision][name] for precision in last)
        assert exact != rounded
        assert exact == pytest.approx(rounded, rel=0.05), name
    weights = torch.load(tmp_path / "bfloat16" / "best.pt", weights_only=True)["weights"]
    assert {value.dtype for value in weights.values()} == {torch.float32}


def test_a_training_that_diverged_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataUnusable, match=r"diverged before step 4: lower --rate"):
        train_paper(toy_plan(tmp_path, rate=1e30), toy_brains(4, 2), 2, toy_brains(2, 2))


def test_too_many_sites_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(Usage, match="5 sites do not fit into a batch of 4"):
        train_paper(toy_plan(tmp_path / "run", unlearn=False), toy_brains(5, 5), 5, toy_brains(5, 5))
    assert not (tmp_path / "run").exists()


def test_more_sites_than_a_usual_validation_batch_can_be_validated(tmp_path: Path) -> None:
    many = toy_brains(20, 20, 24)
    train_paper(toy_plan(tmp_path, steps=1, batch=20, site_pretraining=0), many, 20, many)
    assert torch.load(tmp_path / "last.pt", weights_only=True)["rows"][0]["held_out"] > 0


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("whole")
    train_paper(toy_plan(folder), toy_brains(4, 2), 2, toy_brains(2, 2))
    return torch.load(folder / "last.pt", weights_only=True)


@pytest.mark.parametrize("killed_at", [1, 7], ids=["after the pretraining", "after a checkpoint"])
def test_a_killed_run_goes_on_to_the_same_weights(
    tmp_path: Path, undisturbed: dict[str, object], killed_at: int
) -> None:
    def kill(step: int) -> None:
        if step == killed_at:
            raise Killed

    plan = toy_plan(tmp_path)
    with pytest.raises(Killed):
        train_paper(plan, toy_brains(4, 2), 2, toy_brains(2, 2), watch=kill)
    assert (tmp_path / "last.pt").exists() == (killed_at > plan.every)
    train_paper(plan, toy_brains(4, 2), 2, toy_brains(2, 2))
    resumed = torch.load(tmp_path / "last.pt", weights_only=True)
    for module in undisturbed["modules"]:
        for name, value in undisturbed["modules"][module].items():
            assert torch.equal(value, resumed["modules"][module][name]), name
    for name, value in undisturbed["average"].items():
        assert torch.equal(value, resumed["average"][name]), name
    assert [row["held_out"] for row in resumed["rows"]] == [row["held_out"] for row in undisturbed["rows"]]


def test_another_seed_is_another_training(tmp_path: Path, undisturbed: dict[str, object]) -> None:
    train_paper(toy_plan(tmp_path, seed=2), toy_brains(4, 2), 2, toy_brains(2, 2))
    another = torch.load(tmp_path / "last.pt", weights_only=True)["modules"]["generator"]
    same = undisturbed["modules"]["generator"]
    assert not all(torch.equal(value, another[name]) for name, value in same.items())


def test_without_unlearning_there_is_no_site_head(tmp_path: Path) -> None:
    train_paper(toy_plan(tmp_path, unlearn=False, steps=1), toy_brains(4, 2), 2, toy_brains(2, 2))
    last = torch.load(tmp_path / "last.pt", weights_only=True)
    assert "site_head" not in last["modules"]
    assert not {"site", "confusion"} & set(last["rows"][0])


def test_training_starts_from_given_weights(tmp_path: Path) -> None:
    plan = toy_plan(tmp_path / "first", steps=1)
    best = train_paper(plan, toy_brains(2, 1), 1, toy_brains(2, 1))
    again = replace(plan, output=tmp_path / "second", start=best, rate=1e-9)
    after = torch.load(train_paper(again, toy_brains(2, 1), 1, toy_brains(2, 1)), weights_only=True)["weights"]
    for name, value in torch.load(best, weights_only=True)["weights"].items():
        torch.testing.assert_close(after[name], value, atol=1e-7, rtol=0)
