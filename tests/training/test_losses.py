"""Losses of generator and discriminator, on networks of known answers."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch.nn import functional as F

pytest.importorskip("monai", reason="training needs the extra `train`")

from imunity_bids.models.heads import Discriminator
from imunity_bids.models.imunity import Code
from imunity_bids.models.paper import PaperArchitecture, PaperGenerator
from imunity_bids.training.losses import PRESETS, Forward, Weights, discriminator_loss, generator_losses
from imunity_bids.training.networks import Networks
from imunity_bids.training.pairs import Batch, Example

NOTHING = Weights(adversarial=0, confusion=0, l1=1, kl=1, ssim=0, biological=0)


def forward(generated: torch.Tensor, target: torch.Tensor) -> Forward:
    """Codes of the standard normal distribution; S1 as the generator sees it is the target."""
    zeros = torch.zeros(len(target), 16, 2, 2)
    return Forward(Example(target, target, target), Code(zeros, zeros), Code(zeros, zeros), generated)


def batch(target: torch.Tensor) -> Batch:
    count = len(target)
    return Batch(target, target, torch.zeros(count).long(), torch.zeros(count).long())


def networks(**options: object) -> Networks:
    torch.manual_seed(0)
    return Networks(PaperGenerator(PaperArchitecture(width=4)), (16, 2, 2), **options)


def test_presets_are_those_of_paper_and_code() -> None:
    paper = PRESETS["paper"]
    assert (paper.adversarial, paper.confusion, paper.biological, paper.l1, paper.kl) == (1, 1, 1, 100, 1e-3)  # 2.3
    assert PRESETS["code"].ssim == 1
    assert paper.ssim == 0


def test_l1_is_the_mean_over_brain_pixels_and_kl_is_zero_for_the_prior() -> None:
    target = torch.zeros(2, 1, 32, 32)
    target[0, :, :8] = 0.5  # 256 pixels of brain; 32 in the other slice
    target[1, :, :1] = 0.5
    generated = target.clone()
    generated[1, :, :1] = 0.7
    generated[:, :, 20:] = 0.9  # outside the brain: does not count
    losses = generator_losses(networks(), NOTHING, batch(target), forward(generated, target))
    assert set(losses) == {"l1", "kl"}
    assert losses["l1"].item() == pytest.approx(0.2 * 32 / 288, rel=1e-5)
    assert losses["kl"].item() == 0


def test_ssim_is_zero_for_the_target_itself() -> None:
    target = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    weights = Weights(adversarial=0, confusion=0, l1=1, kl=1, ssim=1, biological=0)
    same = generator_losses(networks(), weights, batch(target), forward(target.clone(), target))
    other = generator_losses(networks(), weights, batch(target), forward(1 - target, target))
    assert same["ssim"].item() == pytest.approx(0, abs=1e-5)
    assert other["ssim"].item() > 1  # structures are turned round: SSIM is negative


def test_only_what_has_a_weight_or_a_head_is_a_loss() -> None:
    target = 0.1 + 0.8 * torch.rand(3, 1, 32, 32)
    everything = networks(sites=3)
    losses = generator_losses(everything, Weights(1, 1, 1, 1, 1, 1), batch(target), forward(target, target))
    assert set(losses) == {"l1", "kl", "adversarial", "ssim", "confusion"}
    assert all(loss.ndim == 0 and loss.isfinite() for loss in losses.values())
    with torch.no_grad():
        for parameter in everything.site_head.parameters():
            parameter.zero_()
    losses = generator_losses(everything, NOTHING, batch(target), forward(target, target))
    assert losses["confusion"].item() == pytest.approx(np.log(3))  # a head that guesses


def test_the_generator_is_told_to_look_real() -> None:
    target = torch.rand(2, 1, 32, 32)
    sure = networks()
    with torch.no_grad():
        sure.discriminator.layers[-1].weight.zero_()
        sure.discriminator.layers[-1].bias.fill_(-3.0)  # "generated", whatever the slice
    weights = Weights(adversarial=1, confusion=0, l1=1, kl=1, ssim=0, biological=0)
    losses = generator_losses(sure, weights, batch(target), forward(target, target))
    assert losses["adversarial"].item() == pytest.approx(np.log1p(np.exp(3)), rel=1e-5)


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


def test_the_discriminator_is_best_where_real_slices_are_real_to_nine_tenths() -> None:
    """At logits log(0.9 / 0.1) for all: cross-entropies with 0.9 and with 0."""
    discriminator = Discriminator()
    logit = float(np.log(9))
    with torch.no_grad():
        discriminator.layers[-1].weight.zero_()
        discriminator.layers[-1].bias.fill_(logit)
    loss = discriminator_loss(discriminator, torch.rand(2, 1, 32, 32), torch.rand(2, 1, 32, 32))
    entropy = -(0.9 * np.log(0.9) + 0.1 * np.log(0.1))
    assert loss.item() == pytest.approx((entropy - np.log(0.1)) / 2, rel=1e-5)


def test_networks_without_a_site_have_no_site_head() -> None:
    assert networks(sites=1).site_head is None
    assert set(networks(sites=1).modules) == {"generator", "discriminator"}
    assert set(networks(adversarial=False).modules) == {"generator"}
    assert networks(sites=2).site_head[-1].out_features == 2


def test_an_update_changes_the_named_network_only_and_clips_its_gradient() -> None:
    two = networks(sites=2, rate=1e-2)
    before = {name: [p.clone() for p in module.parameters()] for name, module in two.modules.items()}
    code = torch.randn(4, 16, 2, 2)
    two.advance(1e6 * two.site_head(code).square().mean(), "site_head")
    changed = {
        name: any(not torch.equal(p, q) for p, q in zip(module.parameters(), before[name], strict=True))
        for name, module in two.modules.items()
    }
    assert changed == {"generator": False, "discriminator": False, "site_head": True}
    norm = torch.cat([p.grad.flatten() for p in two.site_head.parameters()]).norm().item()
    assert norm == pytest.approx(5.0, rel=1e-3)


def test_networks_come_back_from_their_state() -> None:
    one, two = networks(sites=2), networks(sites=2)
    one.advance(one.site_head(torch.randn(4, 16, 2, 2)).square().mean(), "site_head")
    two.load(deepcopy(one.state()))  # a checkpoint is a copy
    code = torch.randn(2, 16, 2, 2)
    assert torch.equal(one.site_head(code), two.site_head(code))
    for networks_ in (one, two):  # optimisers and schedules, too: the next update is the same
        networks_.advance(networks_.site_head(code).square().mean(), "site_head")
    assert torch.equal(one.site_head(code), two.site_head(code))
