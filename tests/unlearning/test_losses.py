from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from imunity_bids.unlearning.losses import confusion_loss, domain_loss, soft_labels, sum_of_site_means


def test_sites_count_the_same_whatever_their_size() -> None:
    losses, sites = torch.tensor([1.0, 3.0, 5.0, 10.0]), torch.tensor([2, 2, 2, 7])
    assert sum_of_site_means(losses, sites).item() == pytest.approx((1 + 3 + 5) / 3 + 10)


def test_sites_pass_their_gradient_on_by_their_size() -> None:
    losses = torch.ones(3, requires_grad=True)
    sum_of_site_means(losses, torch.tensor([0, 0, 1])).backward()
    assert losses.grad.tolist() == pytest.approx([0.5, 0.5, 1])


def test_domain_loss_by_hand() -> None:
    logits = torch.tensor([[0.0, math.log(3)], [math.log(4), 0.0]])  # softmax: (1/4, 3/4), (4/5, 1/5)
    expected = -(math.log(3 / 4) + math.log(1 / 5)) / 2
    assert domain_loss(logits, torch.tensor([1, 1])).item() == pytest.approx(expected)


def test_domain_loss_of_soft_labels_is_the_divergence() -> None:
    logits = torch.tensor([[0.0, math.log(3)]])
    soft = torch.tensor([[0.5, 0.5]])
    expected = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert domain_loss(logits, soft).item() == pytest.approx(expected, rel=1e-5)
    assert domain_loss(soft.log(), soft).item() == pytest.approx(0, abs=1e-6)


def test_confusion_by_hand() -> None:
    logits = torch.tensor([[0.0, math.log(3)]])
    assert confusion_loss(logits).item() == pytest.approx(-(math.log(1 / 4) + math.log(3 / 4)) / 2)


@given(st.integers(2, 30), st.floats(-5, 5))
def test_confusion_of_the_uniform_distribution_is_log_n(count: int, level: float) -> None:
    assert confusion_loss(torch.full((3, count), level)).item() == pytest.approx(math.log(count), rel=1e-5)


@given(st.lists(st.floats(-4, 4), min_size=2, max_size=6))
def test_no_other_distribution_confuses_more(logits: list[float]) -> None:
    assert confusion_loss(torch.tensor([logits])).item() >= math.log(len(logits)) - 1e-5


def test_soft_labels_are_normal_around_the_value() -> None:
    found = soft_labels(torch.tensor([40.0]), torch.tensor([30.0, 40.0, 60.0]), sigma=10)[0]
    weights = [math.exp(-0.5), 1.0, math.exp(-2.0)]
    assert found.tolist() == pytest.approx([w / sum(weights) for w in weights])
