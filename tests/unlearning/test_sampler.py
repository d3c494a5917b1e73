from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from imunity_bids.errors import Usage
from imunity_bids.unlearning.sampler import EvenBatches, PlainBatches


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 12), st.integers(0, 50))
def test_every_batch_has_every_site_in_even_shares(sizes: list[int], more: int, step: int) -> None:
    groups = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    size = len(sizes) + more
    drawn = groups[EvenBatches(groups, size, seed=3)(step)]
    counts = drawn.bincount(minlength=len(sizes))
    assert len(drawn) == size
    assert counts.min() >= 1
    assert counts.max() - counts.min() <= 1


def test_an_epoch_shows_all_of_the_largest_site_and_repeats_the_small_one() -> None:
    groups = torch.tensor([0] * 30 + [1] * 4)
    batches = EvenBatches(groups, 10, seed=1)
    seen = torch.cat([batches(step) for step in range(batches.epoch)])
    assert batches.epoch == 6
    assert set(seen.tolist()) == set(range(34))
    assert (seen >= 30).sum() == 30


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    groups = torch.arange(40) % 3
    first, again = (EvenBatches(groups, 8, seed=5) for _ in range(2))
    later = [first(step) for step in range(9)][8]
    assert torch.equal(later, again(8))
    assert not torch.equal(later, EvenBatches(groups, 8, seed=6)(8))


def test_only_members_are_drawn() -> None:
    groups, members = torch.arange(20) % 2, torch.tensor([0, 3, 5])
    drawn = torch.cat([EvenBatches(groups, 4, 1, members)(step) for step in range(10)])
    assert set(drawn.tolist()) == {0, 3, 5}


def test_more_sites_than_places() -> None:
    with pytest.raises(Usage, match="16 sites do not fit into a batch of 8"):
        EvenBatches(torch.arange(16), 8, seed=1)


def test_nobody_to_draw() -> None:
    with pytest.raises(Usage, match="every label is missing"):
        EvenBatches(torch.zeros(4), 2, seed=1, members=torch.tensor([], dtype=torch.long))


def test_plain_batches_go_through_everything_before_they_repeat() -> None:
    batches = PlainBatches(12, 4, seed=1)
    assert sorted(torch.cat([batches(step) for step in range(3)]).tolist()) == list(range(12))
