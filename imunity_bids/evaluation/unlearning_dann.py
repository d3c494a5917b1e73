"""The comparator of the paper's discussion: gradient reversal (DANN, Ganin 2015) instead of confusion."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from imunity_bids.unlearning.losses import domain_loss, sum_of_site_means
from imunity_bids.unlearning.samples import Samples
from imunity_bids.unlearning.trainer import Unlearner


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, features: Tensor) -> Tensor:
        return features.view_as(features)

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return -gradient


class Dann(Unlearner):
    """One update of all parts: the main loss, and the classifiers' losses with their gradient reversed on its way into
    the encoder (λ = 1). Everything else, pretraining included, is as in `Unlearner`."""

    def __init__(self, *arguments, rate: float = 1e-3, **options):
        super().__init__(*arguments, rate=rate, **options)
        everything = [parameter for module in self.modules().values() for parameter in module.parameters()]
        self.optimisers["dann"] = torch.optim.Adam(everything, lr=rate)

    def step(self, batch: Samples, subsets: Mapping[str, Samples] | None = None) -> dict[str, float]:
        """One batch, one update."""
        batch = batch.to(self.device)
        features = self.encoder(batch.inputs)
        losses = self.main_loss(self.head(features)[batch.labelled], batch.target[batch.labelled])
        parts = {"main": sum_of_site_means(losses, batch.site[batch.labelled])}
        for nuisance in self.nuisances:
            known = batch.known(nuisance.name)
            parts[nuisance.name] = domain_loss(
                nuisance.head(_Reversed.apply(features[known])), batch.nuisances[nuisance.name][known]
            )
        self._advance("dann", sum(parts.values()))
        return {name: loss.item() for name, loss in parts.items()}
