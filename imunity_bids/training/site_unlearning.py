"""Unlearning the site: the head's training (Cackowski 2023, section 2.2.2; Dinsdale 2020, section 2.3).

The head learns to tell the site from the anatomy code; the encoder learns to leave it guessing. Dinsdale 2020 asks for
a head that can tell the site before the encoder unlearns it: hence the pretraining.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from imunity_bids.training.networks import LARGEST_GRADIENT
from imunity_bids.unlearning.losses import domain_loss
from imunity_bids.unlearning.trainer import ADVERSARIAL


def accuracy(logits: Tensor, site: Tensor) -> float:
    """Share of slices whose site the head tells, logits (B, S) and numbers (B)."""
    return (logits.argmax(dim=1) == site).float().mean().item()


def pretrain_site_head(head: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], rate: float) -> float | None:
    """Train the head on the features of a frozen encoder; the accuracy on the last batch before its update.

    It has an optimiser of its own: the one of the training begins its cycle of learning rates afterwards.

    Parameters
    ----------
    batches
        Mean anatomy codes (B, C, h, w) and the numbers of their sites (B); one update for each. None of them: nothing
        is done.
    rate
        Learning rate.
    """
    optimiser = torch.optim.Adam(head.parameters(), lr=rate, betas=ADVERSARIAL)
    reached = None
    for features, site in batches:
        logits = head(features)
        optimiser.zero_grad(set_to_none=True)
        domain_loss(logits, site).backward()
        nn.utils.clip_grad_norm_(head.parameters(), LARGEST_GRADIENT)
        optimiser.step()
        reached = accuracy(logits, site)
    return reached
