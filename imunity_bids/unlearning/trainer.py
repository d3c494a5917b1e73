"""Train a network for its task while its features forget the site, or any other nuisance (Dinsdale 2020, section 2.3).

`Unlearner.step` is the whole method: one batch, three updates in a fixed order. `fit` (in its own file) repeats it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from imunity_bids.unlearning.losses import confusion_loss, domain_loss, sum_of_site_means
from imunity_bids.unlearning.samples import Samples

ADVERSARIAL = (0.5, 0.999)  # Adam's β₁ is low where two networks pull against each other: old gradients are wrong
LEAST = 2  # samples of an update: features are normalised over them
MainLoss = Callable[[Tensor, Tensor], Tensor]  # outputs and targets (B, …) to one loss per sample, (B,)


@dataclass(frozen=True)
class Nuisance:
    """Something that the features shall not tell: the site, or a confound.

    Parameters
    ----------
    name
        Of its labels in `Samples.nuisances`. On which samples it is unlearned, those labels say (`Samples.restricted`).
    head
        From what the encoder gives to logits, (B, K). It should standardise what it sees, as `SiteHead` does, or the
        encoder hides the site in features of small variance, where a fresh classifier finds it again.
    alpha, beta
        Weights of equations 2 and 3 in equation 4 (γ and φ in equation 6). Each loss moves parameters of its own by
        an optimiser of its own, and Adam's steps do not depend on a loss's scale; so the weights act on the steps:
        alpha multiplies the head's learning rate, beta that of confusion.
    """

    name: str
    head: nn.Module
    alpha: float = 3.0
    beta: float = 0.2


class Unlearner:
    """Encoder, head of the main task, and a classifier for each nuisance; one optimiser each, kept over all steps.

    Parameters
    ----------
    encoder
        From inputs (B, …) to features: a tensor, or a tuple of tensors where heads look at several places.
    head
        From the features to the main output.
    main_loss
        From outputs and targets to one number per sample.
    nuisances
        What to unlearn; without any, training is normal.
    rate
        Learning rate of the main task.
    per_site
        Equation 1: the main loss is averaged within each site. False: over all samples, as in normal training.
    updates
        Of each nuisance's classifier per batch, on the same features. The paper has one; more cost next to nothing
        beside the encoder, and a classifier that lags behind a fresh one is one that the site can be hidden from.
    """

    def __init__(
        self,
        encoder: nn.Module,
        head: nn.Module,
        main_loss: MainLoss,
        nuisances: Sequence[Nuisance] = (),
        rate: float = 1e-3,
        per_site: bool = True,
        device: str = "cpu",
        updates: int = 1,
    ):
        self.encoder, self.head = encoder.to(device), head.to(device)
        self.nuisances = tuple(nuisances)
        for nuisance in self.nuisances:
            nuisance.head.to(device)
        self.main_loss, self.per_site, self.device, self.updates = main_loss, per_site, device, updates
        self.optimisers = {"main": torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=rate)}
        for nuisance in self.nuisances:
            self.optimisers[f"nuisance/{nuisance.name}"] = torch.optim.Adam(
                nuisance.head.parameters(), lr=rate * nuisance.alpha, betas=ADVERSARIAL
            )
        self.strength = sum(nuisance.beta for nuisance in self.nuisances)
        self.optimisers["confusion"] = torch.optim.Adam(
            encoder.parameters(), lr=rate * self.strength, betas=ADVERSARIAL
        )

    def step(self, batch: Samples, subsets: Mapping[str, Samples] | None = None) -> dict[str, float]:
        """One batch: main task, then the classifiers of the nuisances, then confusion; equations 1, 2 and 3.

        Parameters
        ----------
        batch
            With at least one sample of each site.
        subsets
            Batches of their own for some of the nuisances, by name: section 2.4.3, X_u and X_c.

        Returns
        -------
        dict
            The losses before their updates: `main`, the nuisances' names, and `confusion`.
        """
        numbers = self.step_main(batch)
        seen = self._features_for_nuisances(batch, subsets or {})
        return numbers | self._step_heads(seen) | self._step_confusion(seen)

    def pretrain_step(self, batch: Samples, subsets: Mapping[str, Samples] | None = None) -> dict[str, float]:
        """Main task and classifiers only: what comes before unlearning, until both have converged."""
        numbers = self.step_main(batch)
        with torch.no_grad():
            seen = self._features_for_nuisances(batch, subsets or {})
        return numbers | self._step_heads(seen)

    def step_main(self, batch: Samples) -> dict[str, float]:
        """Equation 1 on the samples whose target is known, two at least; encoder and head learn."""
        if batch.labelled.sum() < LEAST:
            return {}
        known = batch.take(batch.labelled.nonzero()[:, 0]).to(self.device)
        losses = self.main_loss(self.head(self.encoder(known.inputs)), known.target)
        loss = sum_of_site_means(losses, known.site) if self.per_site else losses.mean()
        self._advance("main", loss)
        return {"main": loss.item()}

    def train(self, mode: bool = True) -> None:
        """Training or evaluation mode of every part."""
        for module in self.modules().values():
            module.train(mode)

    def hold_statistics(self) -> None:
        """Batch normalisation of the encoder uses what it has seen until now, as when the network is applied; until
        the next `train`.

        With statistics of the batch, what is forgotten in training comes back with other statistics; and batches of a
        subset (the overlap of ages) have others than those of the main task.
        """
        for module in self.encoder.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()

    def modules(self) -> dict[str, nn.Module]:
        """Every network by name; the nuisances' heads under `nuisance/NAME`."""
        heads = {f"nuisance/{nuisance.name}": nuisance.head for nuisance in self.nuisances}
        return {"encoder": self.encoder, "head": self.head, **heads}

    def state(self) -> dict[str, Any]:
        """Everything that `load` needs to go on as if nothing had happened."""
        return {
            "modules": {name: module.state_dict() for name, module in self.modules().items()},
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()},
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take over the state of another one with the same parts."""
        for name, module in self.modules().items():
            module.load_state_dict(state["modules"][name])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(copy.deepcopy(state["optimisers"][name]))  # or both would share their moments

    def _features_for_nuisances(
        self, batch: Samples, subsets: Mapping[str, Samples]
    ) -> list[tuple[Nuisance, Any, Tensor]]:
        """Each nuisance that has a known label, with the features of those samples and the labels.

        The heads' update leaves the encoder as it is, so that confusion may use the same features.
        """
        seen = []
        for nuisance in self.nuisances:
            source = subsets.get(nuisance.name, batch)
            known = source.known(nuisance.name).nonzero()[:, 0]
            if len(known) >= LEAST:
                part = source.take(known).to(self.device)
                seen.append((nuisance, self.encoder(part.inputs), part.nuisances[nuisance.name]))
        return seen

    def _step_heads(self, seen: list[tuple[Nuisance, Any, Tensor]]) -> dict[str, float]:
        numbers = {}
        for nuisance, features, labels in seen:
            for _ in range(self.updates):
                loss = domain_loss(nuisance.head(detached(features)), labels)
                self._advance(f"nuisance/{nuisance.name}", loss)
            numbers[nuisance.name] = loss.item()
        return numbers

    def _step_confusion(self, seen: list[tuple[Nuisance, Any, Tensor]]) -> dict[str, float]:
        if not seen or not self.strength:
            return {}
        losses = [nuisance.beta * confusion_loss(nuisance.head(features)) for nuisance, features, _ in seen]
        loss = sum(losses) / self.strength
        self._advance("confusion", loss)
        return {"confusion": loss.item()}

    def _advance(self, name: str, loss: Tensor) -> None:
        """One update by the optimiser of this name; it alone sees the gradient."""
        optimiser = self.optimisers[name]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()


def detached(features: Any) -> Any:
    """Features through which no gradient runs back; a tensor, or a named tuple of them."""
    if isinstance(features, Tensor):
        return features.detach()
    return type(features)(*(part.detach() for part in features))


def as_vectors(features: Any) -> Tensor:
    """Features as one vector per sample, (B, F); what has several places says how (`vectors`)."""
    return features.flatten(1) if isinstance(features, Tensor) else features.vectors()


@torch.inference_mode()
def apply(encoder: nn.Module, head: nn.Module, inputs: Tensor, device: str, batch: int = 64) -> tuple[Tensor, Tensor]:
    """Feature vectors (n, F) and outputs (n, …) of all inputs (n, …), on the CPU; the networks stay in their mode."""
    modes = encoder.training, head.training
    encoder.eval(), head.eval()
    vectors, outputs = [], []
    for part in inputs.split(batch):
        features = encoder(part.to(device).float())
        vectors.append(as_vectors(features).cpu())
        outputs.append(head(features).cpu())
    encoder.train(modes[0]), head.train(modes[1])
    return torch.cat(vectors), torch.cat(outputs)
