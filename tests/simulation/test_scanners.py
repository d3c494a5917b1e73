"""Scanners of the evaluation, random scanners and protocols."""

from __future__ import annotations

import numpy as np
import torch

from imunity_bids.simulation import scanners
from imunity_bids.simulation.protocols import Protocols, draw_protocols, signals, t1_weighted, tissue_levels


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_scanners_are_t1_weighted_and_far_apart() -> None:
    gray_to_white = []
    for scanner in scanners.SCANNERS:
        csf, gray, white = scanner.signal(np.ones((1, 1, 1)), np.ones(3)).ravel()
        assert csf < gray < white, scanner.name
        gray_to_white.append(gray / white)
    assert np.ptp(gray_to_white) > 0.25


def test_drawn_protocols_are_t1_weighted_and_within_their_ranges() -> None:
    drawn = draw_protocols(200, generator(0))
    csf, gray, white = signals(drawn, torch.ones(200, 1, 1)).squeeze(dim=(2, 3)).unbind(dim=1)
    assert (csf < 0.85 * gray).all()
    assert ((gray > 0.45 * white) & (gray < 0.95 * white)).all()
    assert drawn.t1.shape == drawn.t2_star.shape == drawn.density.shape == (200, 3)
    for name, low, high in (("te", 1.5, 8), ("readouts", 80, 260), ("delay", 50, 700), ("flip", 5, 40)):
        values = getattr(drawn, name)
        assert values.shape == (200,)
        assert low <= values.min() and values.max() <= high, name
    assert (drawn.readouts == drawn.readouts.round()).all()
    assert 20 < drawn.is_spgr.sum() < 180  # both kinds


def test_drawing_more_does_not_change_what_is_kept() -> None:
    """Rows are drawn column by column, so only the same count gives the same protocols."""
    first, again = draw_protocols(20, generator(1)), draw_protocols(20, generator(1))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    kept = t1_weighted(8 * 20 + 64, generator(1)).rows(slice(20))
    assert all(torch.equal(a, b) for a, b in zip(first, kept, strict=True))


def test_rows_are_taken_from_every_column() -> None:
    drawn = draw_protocols(5, generator(2))
    chosen = drawn.rows(torch.tensor([3, 0]))
    assert isinstance(chosen, Protocols)
    for column, whole in zip(chosen, drawn, strict=True):
        assert torch.equal(column, whole[[3, 0]])


def test_levels_have_white_matter_at_the_white_stripe_for_every_flip_angle() -> None:
    levels = tissue_levels(draw_protocols(4, generator(3)), torch.ones(4, 3), torch.tensor([0.7, 1.0, 1.3]))
    assert levels.shape == (4, 3, 3)
    torch.testing.assert_close(levels[:, 2], torch.full((4, 3), 0.7))
    assert (levels[:, 0] < levels[:, 1]).all() and (levels[:, 1] < 0.7).all()


def test_a_longer_t1_is_darker() -> None:
    """Gray matter of a person whose gray matter recovers more slowly, white matter being the unit."""
    drawn = draw_protocols(50, generator(4))
    usual, slow = (tissue_levels(drawn, torch.tensor([[1, t1, 1.0]]).expand(50, 3), torch.ones(1)) for t1 in (1, 1.1))
    assert (slow[:, 1] < usual[:, 1]).all()
