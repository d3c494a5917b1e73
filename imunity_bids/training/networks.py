"""The networks of one training, with an optimiser each, and what a checkpoint must hold of them."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from imunity_bids.models.heads import Discriminator
from imunity_bids.training.biology import BiologicalHeads, Feature
from imunity_bids.unlearning.networks import DenseHead
from imunity_bids.unlearning.trainer import ADVERSARIAL

LARGEST_GRADIENT = 5.0  # norm, to which it is clipped


class Networks:
    """Generator, discriminator and heads on the anatomy code: of the site and of biological features.

    Parameters
    ----------
    generator
        Either of the two kinds.
    code
        Channels, height and width of the anatomy code of a slice in training.
    sites
        How many the site head tells; fewer than two: there is none.
    features
        One biological head for each.
    adversarial
        Whether there is a discriminator.
    rate, steps
        Highest learning rate of one cycle, and its length in updates.
    betas
        Of Adam.
    """

    def __init__(
        self,
        generator: nn.Module,
        code: tuple[int, int, int],
        sites: int = 0,
        features: tuple[Feature, ...] = (),
        adversarial: bool = True,
        rate: float = 1e-3,
        steps: int = 1,
        device: str = "cpu",
        betas: tuple[float, float] = ADVERSARIAL,
    ):
        self.generator = generator.to(device, memory_format=torch.channels_last)
        self.modules: dict[str, nn.Module] = {"generator": self.generator}
        self.discriminator = Discriminator().to(device) if adversarial else None
        self.site_head = DenseHead(prod(code), sites).to(device) if sites > 1 else None
        if self.discriminator is not None:
            self.modules["discriminator"] = self.discriminator
        if self.site_head is not None:
            self.modules["site_head"] = self.site_head
        if features:
            self.modules["biology"] = BiologicalHeads(features, prod(code)).to(device)
        self.optimisers = {
            name: torch.optim.Adam(module.parameters(), lr=rate, betas=betas) for name, module in self.modules.items()
        }
        self.schedules = {
            name: torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, steps + 1, pct_start=0.05, cycle_momentum=False)
            for name, optimiser in self.optimisers.items()
        }

    def state(self) -> dict[str, dict[str, Any]]:
        """Everything with a state, for a checkpoint."""
        return {kind: {n: part.state_dict() for n, part in parts.items()} for kind, parts in self._parts().items()}

    def load(self, state: dict[str, dict[str, Any]]) -> None:
        """Inverse of `state`; every tensor stays on its device."""
        for kind, parts in self._parts().items():
            for name, part in parts.items():
                part.load_state_dict(state[kind][name])

    def advance(self, loss: Tensor, *names: str) -> None:
        """One update of the named networks."""
        for name in names:
            self.optimisers[name].zero_grad(set_to_none=True)
        loss.backward()
        for name in names:
            nn.utils.clip_grad_norm_(self.modules[name].parameters(), LARGEST_GRADIENT)
            self.optimisers[name].step()
            self.schedules[name].step()

    def _parts(self) -> dict[str, dict[str, Any]]:
        return {"modules": self.modules, "optimisers": self.optimisers, "schedules": self.schedules}
