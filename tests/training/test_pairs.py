"""Batches of slices, and what is made of them."""

from __future__ import annotations

import pytest
import torch

from imunity_bids.errors import Usage
from imunity_bids.simulation import contrast
from imunity_bids.training.dataset import Brain
from imunity_bids.training.pairs import APART, Batch, Pairs, make_example
from tests.training.toys import toy_brains


def numbered(size: int = 40) -> torch.Tensor:
    """A brain whose intensity names the slice along the first axis, in steps of 1/64."""
    stack = torch.zeros(size, size, size)
    stack[:, 5:-5, 5:-5] = (torch.arange(size)[:, None, None] + 1) / 64
    return stack.half()


def ramp_batch(count: int) -> Batch:
    """All intensities of a brain in order; S1 and S2 are the same."""
    image = torch.linspace(0, 0.9, 32 * 32).reshape(1, 1, 32, 32).expand(count, -1, -1, -1)
    quantiles = torch.linspace(0, 0.9, 101).expand(count, -1)
    means = torch.tensor([[0.2, 0.5]]).expand(count, 2)
    return Batch(image, image, means, quantiles, quantiles, torch.zeros(count), torch.zeros(count))


def test_slices_of_a_pair_are_apart_and_sites_take_turns() -> None:
    pairs = Pairs([Brain("a", 0, numbered()), Brain("b", 1, numbered())], "sagittal", 32)
    batch = pairs.batch(16, torch.Generator().manual_seed(0))
    assert batch.brain.tolist() == batch.site.tolist() == [0, 1] * 8
    first, second = ([round(t[t > 0].max().item() * 64) for t in slices] for slices in (batch.s1, batch.s2))
    assert all(abs(a - b) >= APART for a, b in zip(first, second, strict=True))
    torch.testing.assert_close(batch.quantiles[:, [0, 100]], torch.tensor([[1 / 64, 40 / 64]]).expand(16, 2))
    assert torch.equal(batch.quantiles, batch.other_quantiles)  # the only brain of its site


def test_slices_with_less_than_one_per_cent_of_brain_are_not_used() -> None:
    volume = numbered()
    volume[:10] = 0
    volume[5, 20, 20] = 1.0  # a single voxel of 1600
    pairs = Pairs([Brain("a", 0, volume)], "sagittal", 32)
    assert pairs.usable[0].tolist() == list(range(10, 40))


@pytest.mark.parametrize(("axis", "number"), [("sagittal", 0), ("coronal", 1), ("axial", 2)])
def test_slices_are_cut_along_their_axis(axis: str, number: int) -> None:
    volume = numbered().movedim(0, number)
    batch = Pairs([Brain("a", 0, volume)], axis, 32).batch(4, torch.Generator().manual_seed(0))
    for image in batch.s1:
        assert len(image[image > 0].unique()) == 1  # one slice has one intensity


def test_every_crop_shows_some_brain_and_zeros_beyond_the_image() -> None:
    volume = torch.zeros(30, 8, 8).half()
    volume[:, 3, 4] = 0.25 + torch.arange(30) / 64  # one voxel of each slice
    batch = Pairs([Brain("a", 0, volume)], "sagittal", 32).batch(4, torch.Generator().manual_seed(0))
    assert batch.s1.shape == (4, 1, 32, 32)
    assert (batch.s1[:, 0, 16, 16] >= 0.25).all()  # in the middle of the crop
    assert ((batch.s1 > 0).flatten(1).sum(dim=1) == 1).all()


@pytest.mark.parametrize("count", [1, 3, 5])
@pytest.mark.parametrize("size", [5, 7, 10])
def test_every_batch_holds_a_slice_of_each_site(count: int, size: int) -> None:
    pairs = Pairs(toy_brains(2 * count, count, 24), "axial", 32)
    sites = pairs.batch(size, torch.Generator().manual_seed(0)).site
    assert sites.bincount(minlength=count).tolist() == [len(range(site, size, count)) for site in range(count)]


def test_a_batch_shorter_than_the_number_of_sites_is_refused() -> None:
    """Sites beyond the batch's length would never be drawn."""
    pairs = Pairs(toy_brains(5, 5, 24), "axial", 32)
    with pytest.raises(Usage, match=r"--batch 4 is too small for 5 sites.*give --batch 5 or more"):
        pairs.batch(4, torch.Generator().manual_seed(0))


def test_the_papers_pair_has_its_gamma_in_all_slices() -> None:
    g = torch.Generator().manual_seed(0)
    s1, s2 = 0.01 + 0.9 * torch.rand(2, 5, 1, 16, 16, generator=g)
    quantiles = torch.linspace(0.01, 0.91, 101).expand(5, -1)
    batch = Batch(s1, s2, torch.zeros(5, 2), quantiles, quantiles, torch.zeros(5), torch.zeros(5))
    seen, reference, target = make_example(batch, torch.Generator().manual_seed(1), paper_contrast=True)
    gamma = 0.5 + torch.rand(5, 1, 1, 1, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(seen, s1)
    torch.testing.assert_close(reference, (s2**gamma).clamp(contrast.DARKEST))
    torch.testing.assert_close(target, (s1**gamma).clamp(contrast.DARKEST))
    matched = make_example(batch, torch.Generator().manual_seed(1), paper_contrast=True, prematch=True)
    # The same histogram after γ: matching does what γ does, but for straight lines between 101 quantiles.
    torch.testing.assert_close(matched.seen, matched.target, atol=0.01, rtol=0)


@pytest.mark.parametrize("paper", [True, False])
def test_a_pair_has_one_contrast(paper: bool) -> None:
    example = make_example(ramp_batch(6), torch.Generator().manual_seed(1), paper_contrast=paper)
    noise_and_fields = 0.0 if paper else 0.08
    assert (example.reference - example.target).abs().mean(dim=(1, 2, 3)).max() <= noise_and_fields


def test_the_input_has_another_contrast_than_the_target() -> None:
    example = make_example(ramp_batch(40), torch.Generator().manual_seed(1))
    change = (example.seen - example.target).abs().mean(dim=(1, 2, 3))
    assert change.mean() > 0.03  # tissues differ by about 0.07 between sequences


def test_matching_brings_the_input_near_the_target() -> None:
    """S1's brain is its own reference here: what is left are noise, fields and the lines between quantiles."""
    errors = []
    for prematch in (False, True):
        example = make_example(ramp_batch(40), torch.Generator().manual_seed(1), prematch=prematch)
        errors.append((example.seen - example.target).abs().mean().item())
    assert errors[1] < 0.6 * errors[0]
