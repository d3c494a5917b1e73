"""From brains to a bundle."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("monai", reason="training needs the extra `train`")

from imunity_bids.cli.train import main
from imunity_bids.errors import Usage
from imunity_bids.models.bundle import OTHERS, Bundle, Reference, load_bundle, save_bundle
from imunity_bids.models.card import AXES
from imunity_bids.models.histogram import HistogramNet
from imunity_bids.models.imunity import Architecture, Generator
from imunity_bids.models.quantiles import quantiles
from imunity_bids.models.uncertainty import ErrorNet
from imunity_bids.training.assemble import BundleTraining, train_bundle
from imunity_bids.training.dataset import Brain, hold_out, load_brains
from tests.simulation.people import toy_person
from tests.training.toys import toy_brains, toy_plan, write_brains


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command makes of two sites of three brains."""
    folder = tmp_path_factory.mktemp("train")
    folders = write_brains(toy_brains(6, 2), folder / "brains")
    options = ["--steps", "1", "--later-steps", "2", "--holdout", "1", "--batch", "2", "--crop", "32", "--visits", "0"]
    options += ["--no-unlearning"]  # its pretraining takes most of the time
    more = ["--name", "toy", "--license", "CC0-1.0", "--default-site", "site-1", "--adversarial", "0", "--ssim", "0"]
    assert main(["harmonizer", *map(str, folders), str(folder / "run"), *options, *more]) == 0
    return folder


def test_the_card_says_how_a_bundle_was_made(trained: Path) -> None:
    card = json.loads((trained / "run" / "bundle" / "bundle.json").read_text())
    assert (card["name"], card["license"], card["default_reference"]) == ("toy", "CC0-1.0", "site-1")
    training = card["training"]
    assert training["brains"] == {"site-0": 2, "site-1": 2}
    assert training["held_out"] == ["b4.nii.gz", "b5.nii.gz"]
    assert training["setup"]["batch"] == 2
    assert not {"output", "start", "axis"} & set(training["setup"])
    assert {axis: figures["steps"] for axis, figures in training["axes"].items()} == {
        "axial": 1, "coronal": 2, "sagittal": 2,
    }  # fmt: skip
    for axis, figures in training["axes"].items():
        rows = torch.load(trained / "run" / axis / "last.pt", weights_only=True)["rows"]
        assert figures["l1_on_held_out_brains"] == min(row["held_out"] for row in rows)


def test_references_are_means_over_the_brains_of_a_site(trained: Path) -> None:
    bundle = load_bundle(trained / "run" / "bundle")
    assert set(bundle.references) == {"default", "site-0", "site-1"}
    brains, _ = load_brains(sorted((trained / "brains").glob("site-*")))
    training, _ = hold_out(brains, 1)
    for number, site in enumerate(("site-0", "site-1")):
        own = [quantiles(brain.volume[brain.volume > 0]) for brain in training if brain.site == number]
        torch.testing.assert_close(bundle.references[site].quantiles, torch.stack(own).mean(dim=0), atol=1e-3, rtol=0)
    assert torch.equal(bundle.references["default"].quantiles, bundle.references["site-1"].quantiles)
    for axis in AXES:
        assert torch.equal(bundle.references["default"].codes[axis], bundle.references["site-1"].codes[axis])


def test_later_axes_start_from_the_one_before(trained: Path) -> None:
    """Two steps from there change less than a random start differs."""
    axial, coronal = (
        torch.load(trained / "run" / axis / "best.pt", weights_only=True)["weights"] for axis in ("axial", "coronal")
    )
    name = "anatomy.features.0.weight"
    fresh = Generator(load_bundle(trained / "run" / "bundle").generators["axial"].architecture).state_dict()[name]
    assert (axial[name] - coronal[name]).norm() < 0.1 * (axial[name] - fresh).norm()


def test_nothing_is_claimed_about_a_licence(tmp_path: Path) -> None:
    known = toy_brains(2, 1, 32)
    plan = toy_plan(tmp_path, steps=1, weights=replace(toy_plan(tmp_path).weights, adversarial=0, ssim=0))
    folder = train_bundle(BundleTraining(plan), known, ["one"], known)
    assert load_bundle(folder).card["license"] == "not stated"


def test_a_default_site_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    plan = BundleTraining(toy_plan(tmp_path / "run"), default_site="three")
    with pytest.raises(Usage, match="--default-site three: no such site; there are: one, two"):
        train_bundle(plan, toy_brains(2, 2), ["one", "two"], toy_brains(2, 2))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("extra", [[], ["--no-unlearning"]])
def test_too_small_a_batch_ends_the_command_before_any_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], extra: list[str]
) -> None:
    folders = write_brains(toy_brains(6, 3, 24), tmp_path / "brains")
    arguments = [*map(str, folders), str(tmp_path / "run"), "--batch", "2", "--holdout", "1", *extra]
    assert main(["harmonizer", *arguments]) == 64
    error = capsys.readouterr().err
    assert "--batch 2 is too small for 3 sites" in error
    assert "give --batch 3 or more" in error
    assert not (tmp_path / "run").exists()


def test_with_simulated_visits_a_bundle_has_all_networks(tmp_path: Path) -> None:
    """Two persons to learn from and one held out, of one site."""
    known = []
    for number, core in enumerate((0.5, 0.7, 0.6)):
        person = toy_person(number, core)
        volume = np.tensordot((0.2, 0.5, 0.7), person.parts, 1).clip(0, 1) * person.mask
        known.append(Brain(person.name, 0, torch.from_numpy(volume).half()))
    plan = BundleTraining(
        toy_plan(tmp_path, steps=2, architecture=Architecture(width=4, prematch=True)),
        visits=20,
        histogram_steps=50,
        error_steps=50,
    )
    bundle = load_bundle(train_bundle(plan, known[:2], ["one"], known[2:]))
    learned = bundle.card["training"]
    assert learned["histogram"]["visits"] == 20
    errors = learned["histogram"]["error_on_held_out_persons"]
    assert errors == torch.load(tmp_path / "histogram" / "network.pt", weights_only=True)["errors"]
    ranks = learned["error"]["rank_correlation_on_held_out_persons"]
    assert ranks == torch.load(tmp_path / "error" / "network.pt", weights_only=True)["ranks"]
    kept = torch.load(tmp_path / "histogram" / "network.pt", weights_only=True)["weights"]
    assert all(torch.equal(value, kept[name]) for name, value in bundle.histogram.state_dict().items())
    kept = torch.load(tmp_path / "error" / "network.pt", weights_only=True)["weights"]
    assert all(torch.equal(value, kept[name]) for name, value in bundle.error.state_dict().items())


def test_fine_tuning_starts_every_axis_from_its_own_and_keeps_the_other_networks(tmp_path: Path) -> None:
    shape = Architecture(width=8, prematch=True)
    known = toy_brains(2, 1)
    codes = {axis: torch.zeros(1, shape.code_channels, 1, 1) for axis in AXES}
    references = {"default": Reference("default", "bundle", "", codes, torch.rand(101))}
    torch.manual_seed(3)
    generators = {axis: Generator(shape) for axis in AXES}
    (tmp_path / "shipped").mkdir()
    shipped = Bundle({"name": "x", "version": "1"}, generators, references, HistogramNet(), ErrorNet())
    save_bundle(tmp_path / "shipped", shipped)
    plan = BundleTraining(toy_plan(tmp_path / "run", steps=1, rate=1e-6, start=tmp_path / "shipped"))
    before, after = load_bundle(tmp_path / "shipped"), load_bundle(train_bundle(plan, known, ["one"], known))
    for axis in AXES:
        for name, value in before.generators[axis].state_dict().items():  # kept in half precision
            torch.testing.assert_close(after.generators[axis].state_dict()[name], value, atol=1e-3, rtol=0)
    for kept in OTHERS:
        old, new = (getattr(bundle, kept).state_dict() for bundle in (before, after))
        assert all(torch.equal(old[name], new[name]) for name in old)
    assert after.generators["axial"].architecture == shape
