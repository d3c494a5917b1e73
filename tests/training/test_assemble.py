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
from imunity_bids.harmonize.inference import Compute, harmonize
from imunity_bids.models.bundle import Bundle, Reference, load_bundle, save_bundle
from imunity_bids.models.card import AXES
from imunity_bids.models.imunity import Architecture, Generator
from imunity_bids.models.paper import PaperGenerator
from imunity_bids.models.quantiles import quantiles
from imunity_bids.training import assemble, harmonizer
from imunity_bids.training.assemble import BundleTraining, train_bundle
from imunity_bids.training.dataset import Brain, hold_out, load_brains
from tests.simulation.people import toy_person
from tests.training.toys import small_volumes, toy_brains, toy_plan, toy_setup, write_brains


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command makes of two sites of three brains: the paper's kind."""
    folder = tmp_path_factory.mktemp("train")
    folders = write_brains(toy_brains(6, 2), folder / "brains")
    options = ["--paper", "--steps", "1", "--holdout", "1", "--batch", "2", "--crop", "32", "--ssim", "0"]
    options += ["--no-unlearning"]  # its pretraining takes most of the time
    more = ["--name", "toy", "--license", "CC0-1.0", "--default-site", "site-1", "--adversarial", "0"]
    assert main(["harmonizer", *map(str, folders), str(folder / "run"), *options, *more]) == 0
    return folder


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small volumes, and few visits to validate on."""
    small_volumes(monkeypatch)
    monkeypatch.setattr(assemble, "VALIDATION_VISITS", 12)
    monkeypatch.setattr(harmonizer, "VALIDATION_BATCHES", 2)


def persons(count: int) -> list[Brain]:
    """Brains that can be taken apart, in turn from two sites."""
    brains = []
    for number in range(count):
        person = toy_person(number, 0.5 + 0.05 * number)
        volume = np.tensordot((0.2, 0.5, 0.7), person.parts, 1).clip(0.01, 1) * person.mask
        brains.append(Brain(person.name, number % 2, torch.from_numpy(volume).half()))
    return brains


def test_the_card_says_how_a_bundle_was_made(painted: Path) -> None:
    card = json.loads((painted / "run" / "bundle" / "bundle.json").read_text())
    assert (card["name"], card["license"], card["default_reference"]) == ("toy", "CC0-1.0", "site-1")
    assert card["architecture"]["kind"] == "paper"
    training = card["training"]
    assert training["brains"] == {"site-0": 2, "site-1": 2}
    assert training["held_out"] == ["b4.nii.gz", "b5.nii.gz"]
    assert card["references_made_of"] == {"site-0": ["b0.nii.gz", "b2.nii.gz"], "site-1": ["b1.nii.gz", "b3.nii.gz"]}
    assert training["setup"]["batch"] == 2
    assert not {"output", "start", "axis"} & set(training["setup"])
    assert training["command"] == (
        "imunity-train harmonizer site-0 site-1 RUN --steps 1 --name toy --license CC0-1.0 --default-site site-1 "
        "--holdout 1 --no-unlearning --adversarial 0.0 --paper --ssim 0.0 --batch 2 --crop 32"
    )
    assert set(training["axes"]) == set(AXES)
    for axis, figures in training["axes"].items():
        rows = torch.load(painted / "run" / axis / "last.pt", weights_only=True)["rows"]
        assert figures["steps"] == 1
        assert figures["best"]["held_out"] == pytest.approx(min(row["held_out"] for row in rows), abs=1e-5)


def test_references_are_means_over_the_brains_of_a_site(painted: Path) -> None:
    bundle = load_bundle(painted / "run" / "bundle")
    assert isinstance(bundle.generators["axial"], PaperGenerator)
    assert set(bundle.references) == {"default", "site-0", "site-1"}
    brains, _ = load_brains(sorted((painted / "brains").glob("site-*")))
    training, _ = hold_out(brains, 1)
    for number, site in enumerate(("site-0", "site-1")):
        own = [quantiles(brain.volume[brain.volume > 0]) for brain in training if brain.site == number]
        torch.testing.assert_close(bundle.references[site].quantiles, torch.stack(own).mean(dim=0), atol=1e-3, rtol=0)
    assert torch.equal(bundle.references["default"].quantiles, bundle.references["site-1"].quantiles)
    for axis in AXES:
        assert torch.equal(bundle.references["default"].codes[axis], bundle.references["site-1"].codes[axis])


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


def test_too_small_a_batch_ends_the_command_before_any_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = write_brains(toy_brains(6, 3, 24), tmp_path / "brains")
    arguments = [*map(str, folders), str(tmp_path / "run"), "--paper", "--batch", "2", "--holdout", "1"]
    assert main(["harmonizer", *arguments]) == 64
    error = capsys.readouterr().err
    assert "3 sites do not fit into a batch of 2" in error
    assert "give --batch 3 or more" in error


def test_our_generators_learn_from_simulated_visits_of_the_brains(tmp_path: Path, few: None) -> None:
    """From brains to a bundle that harmonizes; a second call finds everything done."""
    known = persons(4)
    plan = BundleTraining(toy_setup(tmp_path, steps=2, every=2), visits=12, biology=(), command="typed")
    folder = train_bundle(plan, known, ["one", "two"], known[2:])
    bundle = load_bundle(folder)
    training = bundle.card["training"]
    assert (training["visits"], training["command"]) == (12, "typed")
    assert {"held_out", "matching", "untouched", "expected", "site_accuracy"} <= set(training["axes"]["axial"]["best"])
    assert len(list((tmp_path / "persons").glob("*.npz"))) == 4
    volume = known[0].volume.float().numpy()
    made = harmonize(volume, volume > 0, bundle, bundle.references["two"], Compute())
    assert np.isfinite(made.image).all() and made.curve_change > 0
    written = (folder / "axial.safetensors").read_bytes()
    again = train_bundle(replace(plan, axes=replace(plan.axes)), known, ["one", "two"], known[2:], known[:2])
    assert (again / "axial.safetensors").read_bytes() == written
    assert load_bundle.__wrapped__(again).card["references_made_of"] == {"one": ["p0"], "two": ["p1"]}


def test_fine_tuning_starts_every_axis_from_its_own(tmp_path: Path, few: None) -> None:
    shape = Architecture(width=4, code=8, hidden=24)
    torch.manual_seed(3)
    generators = {axis: Generator(shape) for axis in AXES}
    codes = {axis: torch.zeros(1, 8) for axis in AXES}
    (tmp_path / "shipped").mkdir()
    references = {"default": Reference("default", "bundle", "", codes, torch.linspace(0, 1, 101))}
    save_bundle(tmp_path / "shipped", Bundle({"name": "x", "version": "1"}, generators, references))
    known = persons(2)
    plan = BundleTraining(toy_setup(tmp_path / "run", steps=1, rate=1e-6, start=tmp_path / "shipped"), visits=12)
    before, after = load_bundle(tmp_path / "shipped"), load_bundle(train_bundle(plan, known, ["one", "two"], known))
    assert after.generators["axial"].architecture == shape
    for axis in AXES:
        for name, value in before.generators[axis].state_dict().items():  # kept in half precision
            torch.testing.assert_close(after.generators[axis].state_dict()[name], value, atol=1e-3, rtol=0)


def test_visits_of_other_brains_with_the_same_names_are_made_anew(tmp_path: Path, few: None) -> None:
    """A dataset that was preprocessed again: scans of the first would lie at the voxels of other persons."""
    known, again = persons(2), persons(4)[2:]
    renamed = [replace(brain, name=old.name) for brain, old in zip(again, known, strict=True)]
    plan = BundleTraining(toy_setup(tmp_path), visits=12)
    first, second = (assemble._simulate(plan, brains, brains)[0] for brains in (known, renamed))
    assert len(list((tmp_path / "visits").iterdir())) == 4  # to learn from and to validate on, of both
    lengths = [np.diff(simulated.visits.start) for simulated in (first, second)]
    for simulated, length in zip((first, second), lengths, strict=True):
        own = [len(simulated.persons[number].where) for number in simulated.visits.person.tolist()]
        np.testing.assert_array_equal(length, own)
        assert len(simulated.visits.values) == sum(own)
    assert not np.array_equal(first.visits.quantiles, second.visits.quantiles)
