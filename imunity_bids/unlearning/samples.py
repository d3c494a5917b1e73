"""What is learned from: inputs, targets that may be missing, sites, and labels of the nuisances."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

UNKNOWN = -1  # class number of a nuisance that is missing, or that is not to be unlearned on this sample


@dataclass(frozen=True)
class Samples:
    """n samples, or a batch of them.

    A nuisance is unlearned on the samples whose label of it is known: class numbers (n,) that are not `UNKNOWN`, or
    distributions (n, K) without NaN. So missing labels and chosen subsets are one thing (`restricted`).
    """

    inputs: Tensor  # (n, …)
    target: Tensor  # (n, …); anything where it is missing
    labelled: Tensor  # (n,) bool: whose target is known
    site: Tensor  # (n,) numbers, known for all (equation 1)
    nuisances: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, index: Tensor) -> Samples:
        """The samples with these numbers, in this order."""
        labels = {name: values[index] for name, values in self.nuisances.items()}
        return Samples(self.inputs[index], self.target[index], self.labelled[index], self.site[index], labels)

    def to(self, device: str | torch.device) -> Samples:
        """On another device; inputs become float32."""
        labels = {name: values.to(device) for name, values in self.nuisances.items()}
        parts = (part.to(device) for part in (self.inputs.float(), self.target, self.labelled, self.site))
        return Samples(*parts, labels)

    def restricted(self, name: str, on: Tensor) -> Samples:
        """The same samples; the nuisance is unlearned only where `on` (n,) is true."""
        values = self.nuisances[name].clone()
        values[~on] = torch.nan if values.is_floating_point() else UNKNOWN
        return replace(self, nuisances={**self.nuisances, name: values})

    def known(self, name: str) -> Tensor:
        """Where the nuisance is unlearned, (n,) bool."""
        values = self.nuisances[name]
        return ~values.isnan().any(dim=1) if values.ndim == 2 else values != UNKNOWN
