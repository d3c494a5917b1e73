"""Contrasts of slices: γ, curves, simulated sequences, and what a scanner adds."""

from __future__ import annotations

import pytest
import torch

from imunity_bids.simulation import contrast


def test_identity_curves_change_nothing() -> None:
    image = torch.linspace(0, 1, 64).reshape(1, 1, 8, 8)
    image[0, 0, 0, 1] = contrast.DARKEST
    torch.testing.assert_close(contrast.recolour(image, contrast.identity_curves(1)), image, atol=1e-6, rtol=0)


def test_recolouring_keeps_brain_and_background_apart() -> None:
    """A curve may send dark brain to 0 or below, and bright brain above 1; the mask must survive."""
    image = torch.tensor([0.0, 0.1, 0.5, 1.0]).reshape(1, 1, 2, 2)
    steep = (3 * contrast.identity_curves(1)) - 1
    assert contrast.recolour(image, steep).flatten().tolist() == pytest.approx([0, contrast.DARKEST, 0.5, 1], abs=1e-6)


def test_gamma_is_the_papers_formula_for_every_pixel() -> None:
    """Dark CSF above all: between knots of a curve, 0.01 to the power of 0.5 would be 0.048."""
    image = torch.tensor([0.0, 0.01, 0.2, 0.7, 1.0]).reshape(1, 1, 1, 5).expand(2, -1, -1, -1)
    done = contrast.gamma_corrected(image, torch.tensor([[0.5], [1.5]]))
    expected = torch.tensor([[0, 0.1, 0.2**0.5, 0.7**0.5, 1], [0, contrast.DARKEST, 0.2**1.5, 0.7**1.5, 1]])
    torch.testing.assert_close(done.flatten(1), expected)
    gamma = contrast.draw_gamma(1000, torch.Generator().manual_seed(0))
    assert 0.5 <= gamma.min() < 0.51 < 1.49 < gamma.max() <= 1.5
    assert gamma.mean().item() == pytest.approx(1, abs=0.03)  # three standard errors of a uniform distribution


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


def test_quantiles_follow_the_mean_curve_of_the_slice() -> None:
    quantiles = torch.linspace(0.1, 0.9, 101)[None]
    curves = torch.cat([0.4 * contrast.identity_curves(1), 0.8 * contrast.identity_curves(1)], dim=3)  # left and right
    torch.testing.assert_close(contrast.quantiles_after(quantiles, curves), 0.6 * quantiles, atol=1e-5, rtol=0)


def test_quantiles_are_sorted_after_a_curve_that_falls() -> None:
    quantiles = torch.linspace(0.1, 0.9, 101)[None]
    falling = 1 - contrast.identity_curves(1)
    torch.testing.assert_close(contrast.quantiles_after(quantiles, falling), quantiles, atol=1e-5, rtol=0)


def test_a_scanner_adds_little_and_the_same_again() -> None:
    image = torch.full((64, 1, 32, 32), 0.5)
    image[..., :4] = 0
    seen, again = (contrast.scanner(image, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(seen, again)
    assert (seen[image == 0] == 0).all()
    assert (seen[image > 0] >= contrast.DARKEST).all()
    change = (seen - image)[image > 0]
    # Noise up to 0.02 and fields up to 0.04 · 0.5 (standard deviations), each in half of the images; blurring mixes the
    # background into the rim of a quarter of them.
    assert 0.005 < change.abs().mean() < 0.03
    untouched = (seen - image).flatten(1).abs().max(dim=1).values == 0
    assert 1 <= untouched.sum() <= 20  # an eighth of 64 is left alone: 8 ± 2.6
