"""The losses of Dinsdale 2020 as pure functions on logits: equations 1 to 3 and section 2.4.6.

B samples, K classes of a nuisance (sites, or bins of a continuous one).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

AGE_SIGMA = 10.0  # years, of the soft labels in the paper


def sum_of_site_means(losses: Tensor, sites: Tensor) -> Tensor:
    """Equation 1: the sum over sites of the mean loss of their samples, so that the largest site does not decide.

    Parameters
    ----------
    losses
        The main task's loss of each sample, (B,).
    sites
        Their site numbers, (B,).
    """
    _, position = sites.unique(return_inverse=True)
    count = int(position.max()) + 1
    sums = losses.new_zeros(count).index_add(0, position, losses)
    sizes = losses.new_zeros(count).index_add(0, position, torch.ones_like(losses))
    return (sums / sizes).sum()


def domain_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Equation 2: what a classifier of the nuisance still misses; it alone learns from this.

    Parameters
    ----------
    logits
        (B, K).
    labels
        Class numbers (B,): mean cross-entropy. Or distributions (B, K), as of `soft_labels`: mean Kullback-Leibler
        divergence of what is said from them.
    """
    if labels.ndim == 1:
        return F.cross_entropy(logits, labels)
    return divergence(logits, labels).mean()


def confusion_loss(logits: Tensor) -> Tensor:
    """Equation 3: cross-entropy with the uniform distribution, log K at least; only the encoder learns from this."""
    return -F.log_softmax(logits, dim=1).mean()


def soft_labels(values: Tensor, bins: Tensor, sigma: float = AGE_SIGMA) -> Tensor:
    """Section 2.4.6: a continuous label as the distribution N(value, sigma²) over bins.

    Parameters
    ----------
    values
        (B,), in the unit of `sigma` and of `bins`.
    bins
        Centres, (K,).

    Returns
    -------
    Tensor
        (B, K), rows sum to 1.
    """
    return torch.softmax(-0.5 * ((values[:, None] - bins) / sigma) ** 2, dim=1)


def divergence(logits: Tensor, distributions: Tensor) -> Tensor:
    """Kullback-Leibler divergence of softmax(logits) from `distributions`, both (B, K): one number each, (B,)."""
    return F.kl_div(F.log_softmax(logits, dim=1), distributions, reduction="none").sum(dim=1)
