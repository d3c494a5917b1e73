from __future__ import annotations

import pytest
import torch

from imunity_bids.unlearning.leak import leak
from imunity_bids.unlearning.losses import soft_labels


def noise(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, 5, generator=torch.Generator().manual_seed(seed))


def test_a_site_in_the_features_is_found_and_noise_is_not() -> None:
    labels = torch.arange(400) % 4
    shifted = [noise(400, seed) + 5 * torch.nn.functional.one_hot(labels, 5) for seed in (1, 2)]
    assert leak(shifted[0], labels, shifted[1], labels) == pytest.approx(0.75, abs=0.01)
    assert leak(noise(400, 1), labels, noise(400, 2), labels) == pytest.approx(0, abs=0.08)


def test_what_is_not_linear_is_found_too() -> None:
    labels = torch.arange(400) % 2
    found = [noise(400, seed) * (0.2 + 2 * labels[:, None]) for seed in (1, 2)]
    assert leak(found[0], labels, found[1], labels) > 0.35


def test_the_share_of_the_sites_does_not_matter() -> None:
    few = (torch.arange(600) % 10 == 0).long()
    found = [noise(600, seed) + 4 * few[:, None] * torch.tensor([1.0, 0, 0, 0, 0]) for seed in (1, 2)]
    assert leak(found[0], few, found[1], few) > 0.4


def test_a_continuous_nuisance_is_told_by_its_correlation() -> None:
    age = torch.linspace(20, 80, 300)
    soft = soft_labels(age, torch.arange(20.0, 81.0, 5))
    aged = [noise(300, seed) + (age / 10)[:, None] for seed in (1, 2)]
    assert leak(aged[0], soft, aged[1], soft) > 0.8
    assert leak(noise(300, 1), soft, noise(300, 2), soft) < 0.05
    assert leak(torch.zeros(300, 2), soft, torch.zeros(300, 2), soft) == 0
