"""Losses of generator and discriminator (Cackowski 2023, equations 2 to 5), and their weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from imunity_bids.models.heads import Discriminator
from imunity_bids.models.imunity import Code
from imunity_bids.training.networks import Networks
from imunity_bids.training.pairs import Batch, Example
from imunity_bids.unlearning.losses import confusion_loss

REAL = 0.9  # what the discriminator is to say of real slices; one-sided label smoothing, as in the authors' code


@dataclass(frozen=True)
class Weights:
    """λ of equation 4, and of SSIM (in the authors' code, not in the paper)."""

    adversarial: float
    confusion: float
    l1: float
    kl: float
    ssim: float
    biological: float


PRESETS = {
    "paper": Weights(adversarial=1, confusion=1, l1=100, kl=1e-3, ssim=0, biological=1),
    "code": Weights(adversarial=2, confusion=0.01, l1=100, kl=1e-6, ssim=1, biological=0.01),
}


class Forward(NamedTuple):
    """One batch through the generator."""

    slices: Example
    anatomy: Code
    contrast: Code
    generated: Tensor  # (B, 1, H, W)


def generator_losses(networks: Networks, weights: Weights, batch: Batch, forward: Forward) -> dict[str, Tensor]:
    """Parts of the generator's loss, each a scalar, by the names of their weights; parts without a weight are left out.

    L1 is the mean over all brain pixels of the batch. Confusion is there wherever there is a site head.
    """
    from monai.losses import SSIMLoss

    target, generated = forward.slices.target, forward.generated
    anatomy, contrast_code = forward.anatomy, forward.contrast
    mask = target > 0
    losses = {"l1": F.l1_loss(generated[mask], target[mask]), "kl": anatomy.kl() + contrast_code.kl()}
    if weights.adversarial:
        losses["adversarial"] = should_be(networks.discriminator(generated), 1.0)
    if weights.ssim:
        with torch.autocast(generated.device.type, enabled=False):  # variances are small differences of large numbers
            losses["ssim"] = SSIMLoss(spatial_dims=2, data_range=1.0)(generated.float(), target)
    if networks.site_head is not None:
        losses["confusion"] = confusion_loss(networks.site_head(anatomy.mean))
    if "biology" in networks.modules:
        losses["biological"] = networks.modules["biology"](anatomy.mean, batch.brain)
    return losses


def discriminator_loss(discriminator: Discriminator, real: Tensor, generated: Tensor) -> Tensor:
    """Mean of two binary cross-entropies (section 2.3): of real slices and of generated ones, both (B, 1, H, W).

    They pass one after the other, so that the batch norm of neither knows of the other; the generator's own pass, too,
    holds generated ones alone.
    """
    return 0.5 * (should_be(discriminator(real), REAL) + F.softplus(discriminator(generated)).mean())


def should_be(logits: Tensor, answer: float) -> Tensor:
    """Binary cross-entropy of a map of logits with one answer, 1 being real."""
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, answer))
