from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from torch.nn import functional as F

pytest.importorskip("monai", reason="training needs the extra `train`")

from imunity_bids.cli.train import main
from imunity_bids.errors import DataUnusable, Usage
from imunity_bids.models.bundle import OTHERS, Bundle, Reference, load_bundle, save_bundle
from imunity_bids.models.card import AXES
from imunity_bids.models.histogram import HistogramNet
from imunity_bids.models.imunity import Architecture, Discriminator, Generator
from imunity_bids.models.uncertainty import ErrorNet
from imunity_bids.simulation import contrast
from imunity_bids.training import bundle, histogram, uncertainty
from imunity_bids.training.bundle import train_bundle
from imunity_bids.training.harmonizer import (
    HarmonizerTraining,
    discriminator_loss,
    make_pair,
    train_harmonizer,
)
from imunity_bids.training.slices import APART, Batch, Brain, Pairs, hold_out, load_brains
from tests.simulation.people import someone


def brains(count: int, sites: int, size: int = 40) -> list[Brain]:
    """Balls with a bright core, gray level by site."""
    grid = np.indices((size,) * 3) - (size - 1) / 2
    radius = np.sqrt((grid**2).sum(0))
    made = []
    for index in range(count):
        rng = np.random.default_rng(index)
        gray = 0.4 + 0.2 * (index % sites)
        volume = np.where(radius < 0.25 * size, 0.7, gray) * (radius < 0.45 * size)
        volume = volume * (1 + 0.05 * rng.standard_normal(volume.shape)) * (radius < 0.45 * size)
        made.append(Brain(f"b{index}", index % sites, torch.from_numpy(volume).clamp(0, 1).half()))
    return made


def setup(output: Path, **changes: object) -> HarmonizerTraining:
    plain = HarmonizerTraining(
        output, "axial", Architecture(width=4), steps=8, batch=4, crop=32, every=4, rate=2e-3, site_pretraining=2
    )
    return replace(plain, **changes)


def test_slices_of_a_pair_are_apart_and_sites_are_balanced() -> None:
    stack = torch.zeros(40, 40, 40)
    stack[:, 5:35, 5:35] = (torch.arange(40)[:, None, None] + 1) / 64  # the intensity names the slice
    pairs = Pairs([Brain("a", 0, stack.half()), Brain("b", 1, stack.half())], "sagittal", 32)
    one, two, means, own, other, site, brain = pairs.batch(16, torch.Generator().manual_seed(0))
    assert brain.tolist() == site.tolist() == [0, 1] * 8
    assert means.shape == (16, 2)
    assert own.shape == other.shape == (16, 101)
    number = [round(t[t > 0].max().item() * 64) for t in one], [round(t[t > 0].max().item() * 64) for t in two]
    assert all(abs(a - b) >= APART for a, b in zip(*number, strict=True))


@pytest.mark.parametrize("count", [1, 3, 5])
@pytest.mark.parametrize("size", [5, 7, 10])
def test_every_batch_holds_a_slice_of_each_site(count: int, size: int) -> None:
    pairs = Pairs(brains(2 * count, count, 24), "axial", 32)
    sites = pairs.batch(size, torch.Generator().manual_seed(0)).site
    assert sites.bincount(minlength=count).tolist() == [len(range(site, size, count)) for site in range(count)]


def test_a_batch_shorter_than_the_number_of_sites_is_refused() -> None:
    """Sites beyond the batch's length would never be drawn."""
    pairs = Pairs(brains(5, 5, 24), "axial", 32)
    with pytest.raises(Usage, match=r"--batch 4 is too small for 5 sites.*give --batch 5 or more"):
        pairs.batch(4, torch.Generator().manual_seed(0))


def test_too_small_a_batch_ends_the_command_before_any_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for brain in brains(6, 3, 24):
        folder = tmp_path / f"site-{brain.site}"
        folder.mkdir(exist_ok=True)
        nib.Nifti1Image(brain.volume.float().numpy(), np.eye(4)).to_filename(folder / f"{brain.name}.nii.gz")
    folders = [str(tmp_path / f"site-{site}") for site in range(3)]
    for extra in ([], ["--no-unlearning"]):
        assert main(["harmonizer", *folders, str(tmp_path / "run"), "--batch", "2", "--holdout", "1", *extra]) == 64
        assert "--batch 2 is too small for 3 sites" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_gamma_is_the_papers_formula_for_every_pixel() -> None:
    """Dark CSF above all: between knots of a curve, 0.01 to the power of 0.5 would be 0.048."""
    image = torch.tensor([0.0, 0.01, 0.2, 0.7, 1.0]).reshape(1, 1, 1, 5).expand(2, -1, -1, -1)
    done = contrast.gamma_corrected(image, torch.tensor([[0.5], [1.5]]))
    expected = torch.tensor([[0, 0.1, 0.2**0.5, 0.7**0.5, 1], [0, contrast.DARKEST, 0.2**1.5, 0.7**1.5, 1]])
    torch.testing.assert_close(done.flatten(1), expected)
    gamma = contrast.draw_gamma(1000, torch.Generator().manual_seed(0))
    assert 0.5 <= gamma.min() < 0.51 < 1.49 < gamma.max() <= 1.5
    assert gamma.mean().item() == pytest.approx(1, abs=0.03)  # three standard errors of a uniform distribution


def test_the_papers_pair_has_its_gamma_in_all_slices() -> None:
    g = torch.Generator().manual_seed(0)
    one, two = 0.01 + 0.9 * torch.rand(2, 5, 1, 16, 16, generator=g)
    quantiles = torch.linspace(0.01, 0.9, 101).expand(5, -1)
    batch = Batch(one, two, torch.zeros(5, 2), quantiles, quantiles, torch.zeros(5), torch.zeros(5))
    seen, reference, target = make_pair(batch, setup(Path(), paper_contrast=True), torch.Generator().manual_seed(1))
    gamma = 0.5 + torch.rand(5, 1, 1, 1, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(seen, one)
    torch.testing.assert_close(reference, (two**gamma).clamp(contrast.DARKEST))
    torch.testing.assert_close(target, (one**gamma).clamp(contrast.DARKEST))
    matching = setup(Path(), paper_contrast=True, architecture=Architecture(width=4, prematch=True))
    matched, _, target = make_pair(batch, matching, torch.Generator().manual_seed(1))
    # the same histogram after γ: matching does what γ does, but for straight lines between 101 quantiles
    torch.testing.assert_close(matched, target, atol=0.02, rtol=0)


def test_our_gamma_leaves_white_matter() -> None:
    curves = contrast.gamma_curves(20, torch.Generator().manual_seed(0))
    gamma = contrast.draw_gamma(20, torch.Generator().manual_seed(0))
    white, gray = (contrast.recolour(torch.full((20, 1, 4, 4), level), curves)[:, 0, 0, 0] for level in (0.7, 0.5))
    torch.testing.assert_close(white, torch.full((20,), 0.7), atol=2e-3, rtol=0)  # lines between 24 knots
    torch.testing.assert_close(gray, 0.7 * (0.5 / 0.7) ** gamma[:, 0], atol=2e-3, rtol=0)


def test_random_curves_are_monotone_and_leave_white_matter_where_it_is() -> None:
    curves = contrast.random_curves(50, torch.Generator().manual_seed(0))
    assert (curves[:, 1:] > curves[:, :-1]).all()
    white = torch.full((50, 1, 8, 8), contrast.WHITE_MATTER)
    torch.testing.assert_close(contrast.recolour(white, curves), white, atol=1e-5, rtol=0)


def test_a_sequence_moves_tissues_together_and_leaves_white_matter() -> None:
    means = torch.tensor([[0.2, 0.5]]).expand(200, 2)
    curves = contrast.sequence_curves(means, torch.Generator().manual_seed(0), uneven=0.1)
    levels = {
        level: contrast.recolour(torch.full((200, 1, 24, 24), level), curves).mean(dim=(1, 2, 3))
        for level in (0.2, 0.5, 0.7)
    }
    # 24 knots: the kink at 0.7 lies between two of them and is cut by up to a fifth of the step between tissues
    torch.testing.assert_close(levels[0.7], torch.full((200,), 0.7), atol=0.04, rtol=0)
    assert (levels[0.2] < levels[0.5]).all() and (levels[0.5] < levels[0.7]).all()
    assert levels[0.5].std() > 0.04  # contrasts differ between the drawn sequences


def test_a_pair_has_one_contrast() -> None:
    image = torch.linspace(0, 0.9, 32 * 32).reshape(1, 1, 32, 32).expand(6, -1, -1, -1)
    means = torch.tensor([[0.2, 0.5]]).expand(6, 2)
    even = torch.linspace(0, 0.9, 101).expand(6, -1)
    for paper in (True, False):
        plan = setup(Path(), paper_contrast=paper)
        batch = Batch(image, image, means, even, even, torch.zeros(6), torch.zeros(6))
        _, two, target = make_pair(batch, plan, torch.Generator().manual_seed(1))
        noise_and_fields = 0.0 if paper else 0.08
        assert (two - target).abs().mean(dim=(1, 2, 3)).max() <= noise_and_fields


def test_real_slices_are_judged_whatever_is_generated_beside_them() -> None:
    """Batch norm over both at once would tell each of the other: the loss is a sum of two terms, one of each."""
    torch.manual_seed(0)
    discriminator = Discriminator()
    real, dark, bright = torch.rand(4, 1, 32, 32), 0.1 * torch.rand(4, 1, 32, 32), 5 + torch.rand(4, 1, 32, 32)
    loss = discriminator_loss(discriminator, real, dark)
    expected = F.binary_cross_entropy_with_logits(discriminator(real), torch.full((4, 1, 4, 4), 0.9))
    expected = (expected + F.softplus(discriminator(dark)).mean()) / 2
    torch.testing.assert_close(loss, expected)
    difference = discriminator_loss(discriminator, real, bright) - loss
    alone = (F.softplus(discriminator(bright)).mean() - F.softplus(discriminator(dark)).mean()) / 2
    torch.testing.assert_close(difference, alone, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("decoder", ["curves", "synthesis"])
@pytest.mark.parametrize("sites", [1, 2])
def test_losses_fall(tmp_path: Path, decoder: str, sites: int) -> None:
    shape = Architecture(decoder, width=8)
    plan = setup(tmp_path, architecture=shape, paper_contrast=True, steps=150, every=25, batch=8, rate=2e-3)
    train_harmonizer(plan, brains(4, sites), sites, brains(2, sites))
    rows = torch.load(tmp_path / "last.pt", weights_only=True)["rows"]
    assert rows[-1]["l1"] < 0.8 * rows[0]["l1"]
    assert ("site" in rows[0]) == (sites > 1)


def test_bfloat16_learns_nearly_the_same(tmp_path: Path) -> None:
    """8 bits of mantissa: the losses of every step within some per cent, and weights kept in float32."""
    last = {}
    for precision in ("float32", "bfloat16"):
        plan = setup(tmp_path / precision, architecture=Architecture(width=8), precision=precision)
        train_harmonizer(plan, brains(4, 2), 2, brains(2, 2))
        last[precision] = torch.load(plan.output / "last.pt", weights_only=True)
    for name in ("l1", "site", "ssim"):
        one, other = (last[precision]["rows"][-1][name] for precision in last)
        assert one != other
        assert one == pytest.approx(other, rel=0.05), name
    weights = torch.load(tmp_path / "bfloat16" / "best.pt", weights_only=True)["weights"]
    assert {value.dtype for value in weights.values()} == {torch.float32}


def test_a_training_that_diverged_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from imunity_bids.training import harmonizer

    monkeypatch.setattr(harmonizer, "_judge", lambda *_: float("nan"))
    with pytest.raises(DataUnusable, match="diverged"):
        train_harmonizer(setup(tmp_path), brains(4, 2), 2, brains(2, 2))


def test_a_killed_run_goes_on_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    args = brains(4, 2), 2, brains(2, 2)
    train_harmonizer(setup(tmp_path / "whole"), *args)
    from imunity_bids.training import harmonizer

    original, calls = harmonizer._step, []

    class Killed(BaseException):
        pass

    def step(*given: object) -> dict[str, float]:
        calls.append(1)
        if len(calls) == 7:
            raise Killed
        return original(*given)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(harmonizer, "_step", step)
        train_harmonizer(setup(tmp_path / "broken"), *args)
    train_harmonizer(setup(tmp_path / "broken"), *args)
    one, other = (torch.load(tmp_path / n / "last.pt", weights_only=True) for n in ("whole", "broken"))
    for module in one["modules"]:
        for name, value in one["modules"][module].items():
            assert torch.equal(value, other["modules"][module][name]), name


def test_from_folders_to_a_bundle(tmp_path: Path) -> None:
    for site, folder in enumerate(("one", "two")):
        (tmp_path / folder).mkdir()
        for brain in [b for b in brains(6, 2) if b.site == site]:
            image = nib.Nifti1Image(brain.volume.float().numpy(), np.eye(4))
            image.to_filename(tmp_path / folder / f"{brain.name}.nii.gz")
    found, sites = load_brains([tmp_path / "one", tmp_path / "two"])
    assert sites == ["one", "two"]
    training, judges = hold_out(found, 1)
    assert [b.name for b in judges] == ["b4.nii.gz", "b5.nii.gz"]
    folder = train_bundle(setup(tmp_path / "run", steps=4), training, sites, judges, "toy", "none")
    made = load_bundle(folder)
    assert set(made.references) == {"default", "one", "two"}
    assert made.card["training"]["brains"] == {"one": 2, "two": 2}


def test_with_simulated_visits_a_bundle_has_all_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two persons to learn from and one to judge by, of one site."""
    people = [someone(number, core) for number, core in enumerate((0.5, 0.7, 0.6))]
    known = []
    for person in people:
        volume = np.tensordot((0.2, 0.5, 0.7), person.parts, 1).clip(0, 1) * person.mask
        known.append(Brain(person.name, 0, torch.from_numpy(volume).half()))
    monkeypatch.setattr(bundle, "train_histogram", partial(histogram.train_histogram, steps=50))
    monkeypatch.setattr(uncertainty, "STEPS", 50)
    plan = setup(tmp_path / "run", steps=4, architecture=Architecture(width=4, prematch=True))
    folder = train_bundle(plan, known[:2], ["one"], known[2:], "toy", "none", visits=20)
    made = load_bundle(folder)
    assert made.histogram is not None
    assert made.error is not None
    learned = made.card["training"]
    assert learned["histogram"]["visits"] == 20
    assert set(learned["error"]["rank_correlation_on_held_out_persons"]) == {"network", "spread", "histogram"}


def test_fine_tuning_starts_every_axis_from_its_own_and_keeps_the_other_networks(tmp_path: Path) -> None:
    shape = Architecture(width=8, prematch=True)
    known, sites = brains(4, 1), ["one"]
    codes = {axis: torch.zeros(1, shape.code_channels, 1, 1) for axis in AXES}
    references = {"default": Reference("default", "bundle", "", codes, torch.rand(101))}
    torch.manual_seed(3)
    generators = {axis: Generator(shape) for axis in AXES}
    (tmp_path / "shipped").mkdir()
    shipped = Bundle({"name": "x", "version": "1"}, generators, references, HistogramNet(), ErrorNet())
    save_bundle(tmp_path / "shipped", shipped)
    plan = setup(tmp_path / "run", steps=1, rate=1e-6, start=tmp_path / "shipped")
    before, after = (
        load_bundle(tmp_path / "shipped"),
        load_bundle(train_bundle(plan, known, sites, known, "own", "none")),
    )
    for axis in AXES:
        for name, value in before.generators[axis].state_dict().items():
            torch.testing.assert_close(after.generators[axis].state_dict()[name], value, atol=1e-3, rtol=0)
    for kept in OTHERS:
        one, other = (getattr(bundle, kept).state_dict() for bundle in (before, after))
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert after.generators["axial"].architecture == shape


def test_a_prematched_slice_of_the_same_histogram_is_its_target() -> None:
    image = torch.linspace(0.01, 0.65, 48 * 48).reshape(1, 1, 48, 48).expand(8, -1, -1, -1)
    even = torch.linspace(0.01, 0.65, 101).expand(8, -1)
    g = torch.Generator().manual_seed(0)
    source, target = contrast.random_curves(8, g), contrast.random_curves(8, g)
    own, wanted = contrast.quantiles_after(even, source), contrast.quantiles_after(even, target)
    matched = contrast.prematch(contrast.recolour(image, source), own, wanted)
    # between two quantiles the curves are taken for straight
    torch.testing.assert_close(matched, contrast.recolour(image, target), atol=0.01, rtol=0)


def test_a_slice_is_matched_to_what_the_histogram_network_says() -> None:
    image = torch.linspace(0.01, 0.65, 48 * 48).reshape(1, 1, 48, 48).expand(8, -1, -1, -1)
    even = torch.linspace(0.01, 0.65, 101).expand(8, -1)
    g = torch.Generator().manual_seed(0)
    source, target = contrast.random_curves(8, g), contrast.random_curves(8, g)
    seen = contrast.recolour(image, source)
    own, wanted = contrast.quantiles_after(even, source), contrast.quantiles_after(even, target)
    stays = contrast.prematch(seen, own, wanted, lambda own, reference: (own, reference))
    torch.testing.assert_close(stays, seen, atol=0.01, rtol=0)
    changed = contrast.prematch(seen, own, wanted, lambda own, reference: (reference, own))
    torch.testing.assert_close(changed, contrast.prematch(seen, own, wanted))
