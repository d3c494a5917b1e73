"""The networks of one training, with an optimiser each, and what a checkpoint must hold of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from imunity_bids.models.imunity import Architecture, CodeHead, Discriminator, Generator
from imunity_bids.training.biology import BiologicalHeads, Feature
from imunity_bids.training.tissue_levels import LevelHeads

LARGEST_GRADIENT = 5.0  # norm, to which it is clipped


class Networks:
    """Generator, discriminator and heads on the anatomy code: of the site, of biological features, of tissue levels.

    Parameters
    ----------
    architecture
        Of the generator.
    crop
        Pixels of a side of the slices; the site head and the biological heads see codes of this size only.
    sites
        How many the site head tells; fewer than two: there is none.
    features
        One biological head for each.
    levels
        Whether there are heads of tissue levels.
    rate, steps
        Highest learning rate of one cycle, and its length in updates.
    """

    def __init__(
        self,
        architecture: Architecture,
        crop: int,
        sites: int = 0,
        features: tuple[Feature, ...] = (),
        levels: bool = False,
        rate: float = 1e-3,
        steps: int = 1,
        device: str = "cpu",
    ):
        code = (architecture.code_channels, crop // architecture.multiple, crop // architecture.multiple)
        self.generator = Generator(architecture).to(device, memory_format=torch.channels_last)
        self.discriminator = Discriminator().to(device)
        self.site_head = CodeHead(code, sites).to(device) if sites > 1 else None
        self.modules: dict[str, nn.Module] = {"generator": self.generator, "discriminator": self.discriminator}
        if self.site_head is not None:
            self.modules["site_head"] = self.site_head
        if features:
            self.modules["biology"] = BiologicalHeads(list(features), code).to(device)
        if levels:
            self.modules["levels"] = LevelHeads(architecture.code_channels).to(device)
        self.optimisers = {
            name: torch.optim.Adam(module.parameters(), lr=rate, betas=(0.5, 0.999))
            for name, module in self.modules.items()
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
