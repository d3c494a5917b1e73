"""Batches of slices, and what is made of them."""

from __future__ import annotations

import pytest
import torch

from imunity_bids.errors import Usage
from imunity_bids.models.imunity import DARKEST
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
    return Batch(image, image, torch.zeros(count), torch.zeros(count))


def test_slices_of_a_pair_are_apart_and_sites_have_as_many() -> None:
    pairs = Pairs([Brain("a", 0, numbered()), Brain("b", 1, numbered())], "sagittal", 32, 16)
    batch = pairs.batch(0, torch.Generator().manual_seed(0))
    assert batch.brain.tolist() == batch.site.tolist() == [0] * 8 + [1] * 8
    first, second = ([round(t[t > 0].max().item() * 64) for t in slices] for slices in (batch.s1, batch.s2))
    assert all(abs(a - b) >= APART for a, b in zip(first, second, strict=True))


def test_slices_with_less_than_one_per_cent_of_brain_are_not_used() -> None:
    volume = numbered()
    volume[:10] = 0
    volume[5, 20, 20] = 1.0  # a single voxel of 1600
    pairs = Pairs([Brain("a", 0, volume)], "sagittal", 32)
    assert pairs.usable[0].tolist() == list(range(10, 40))


@pytest.mark.parametrize(("axis", "number"), [("sagittal", 0), ("coronal", 1), ("axial", 2)])
def test_slices_are_cut_along_their_axis(axis: str, number: int) -> None:
    volume = numbered().movedim(0, number)
    batch = Pairs([Brain("a", 0, volume)], axis, 32, 4).batch(0, torch.Generator().manual_seed(0))
    for image in batch.s1:
        assert len(image[image > 0].unique()) == 1  # one slice has one intensity


def test_every_crop_shows_some_brain_and_zeros_beyond_the_image() -> None:
    volume = torch.zeros(30, 8, 8).half()
    volume[:, 3, 4] = 0.25 + torch.arange(30) / 64  # one voxel of each slice
    batch = Pairs([Brain("a", 0, volume)], "sagittal", 32, 4).batch(0, torch.Generator().manual_seed(0))
    assert batch.s1.shape == (4, 1, 32, 32)
    assert (batch.s1[:, 0, 16, 16] >= 0.25).all()  # in the middle of the crop
    assert ((batch.s1 > 0).flatten(1).sum(dim=1) == 1).all()


@pytest.mark.parametrize("count", [1, 3, 5])
@pytest.mark.parametrize("size", [5, 7, 10])
def test_every_batch_holds_a_slice_of_each_site(count: int, size: int) -> None:
    pairs = Pairs(toy_brains(2 * count, count, 24), "axial", 32, size)
    sites = pairs.batch(0, torch.Generator().manual_seed(0)).site
    assert sites.bincount(minlength=count).tolist() == [len(range(site, size, count)) for site in range(count)]


def test_a_batch_shorter_than_the_number_of_sites_is_refused() -> None:
    """Sites beyond the batch's length would never be drawn."""
    with pytest.raises(Usage, match=r"5 sites do not fit into a batch of 4.*give --batch 5 or more"):
        Pairs(toy_brains(5, 5, 24), "axial", 32, 4)


def test_the_papers_pair_has_its_gamma_in_all_slices() -> None:
    g = torch.Generator().manual_seed(0)
    s1, s2 = 0.01 + 0.9 * torch.rand(2, 5, 1, 16, 16, generator=g)
    batch = Batch(s1, s2, torch.zeros(5), torch.zeros(5))
    seen, reference, target = make_example(batch, torch.Generator().manual_seed(1))
    gamma = 0.5 + torch.rand(5, 1, 1, 1, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(seen, s1)
    torch.testing.assert_close(reference, (s2**gamma).clamp(DARKEST))
    torch.testing.assert_close(target, (s1**gamma).clamp(DARKEST))


def test_a_pair_has_one_contrast() -> None:
    example = make_example(ramp_batch(6), torch.Generator().manual_seed(1))
    torch.testing.assert_close(example.reference, example.target)
    assert (example.seen - example.target).abs().mean() > 0.03  # a γ of 0.5 to 1.5 moves a ramp by 0.06
