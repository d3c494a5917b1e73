"""What the training of an axis is, whichever kind its generator is: the loop, and the updates of a batch.

Each batch updates the site head, then the generator, whose loss holds the confusion through the head just updated, then
the discriminator.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from imunity_bids.errors import DataUnusable
from imunity_bids.training.checkpoints import Run, autocast, weights_to_start_with
from imunity_bids.training.losses import discriminator_loss
from imunity_bids.training.networks import Networks
from imunity_bids.training.site_unlearning import accuracy, pretrain_site_head
from imunity_bids.unlearning.averages import moving_average
from imunity_bids.unlearning.losses import domain_loss

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AxisTraining:
    """What decides the weights of one axis, and where they go; each kind of generator adds its own."""

    output: Path
    axis: str
    unlearn: bool = True
    site_pretraining: int = 200  # updates of the site head on the frozen encoder, before unlearning begins
    steps: int = 20_000
    rate: float = 1e-3
    every: int = 500
    seed: int = 1
    device: str = "cpu"
    precision: str = "float32"
    start: Path | None = None  # best.pt of another axis or run, or a bundle's safetensors

    def random(self, number: int) -> torch.Generator:
        """Random numbers of batch `number`; those of the site head's pretraining have negative numbers."""
        return torch.Generator().manual_seed(self.seed * 10**7 + number)


def train_axis(
    setup: AxisTraining,
    networks: Networks,
    site_batches: Iterable[tuple[Tensor, Tensor]],
    update: Callable[[int], dict[str, float]],
    validate: Callable[[nn.Module], dict[str, float]],
    watch: Callable[[int], None] | None = None,
) -> Path:
    """Train, or go on where a killed run stopped; returns the path of the best weights.

    Parameters
    ----------
    networks
        Untrained ones.
    site_batches
        What the site head is trained on before the first batch (`pretrain_site_head`); drawn only where there is one.
    update
        Draws the batch of this number and updates the networks; gives the losses back.
    validate
        Figures of a generator; the weights with the least `held_out` are the best.
    watch
        Called with the number of each batch, from 1, before it.

    Raises
    ------
    DataUnusable
        The training diverged, or its folder holds a run of an earlier version.
    """
    if setup.start is not None:
        networks.generator.load_state_dict(weights_to_start_with(setup.start))
    average = moving_average(networks.generator)
    run = Run(setup.output)
    first, best = 0, float("inf")
    if state := run.load():
        networks.load(state)
        average.load_state_dict(state["average"])
        first, best = state["step"], state["best"]
    elif networks.site_head is not None:  # a run that was killed in here begins here again
        reached = pretrain_site_head(networks.site_head, site_batches, setup.rate)
        log.info("%s: accuracy of the site head before unlearning: %s", setup.axis, reached)
    rows: list[dict[str, float]] = []
    bar = tqdm(range(first + 1, setup.steps + 1), initial=first, total=setup.steps, desc=setup.axis, mininterval=5)
    for step in bar:
        if watch is not None:
            watch(step)
        torch.manual_seed(setup.seed * 10**7 + step)  # the latent noise, so that a resumed run is the same run
        try:
            rows.append(update(step))
            average.update_parameters(networks.generator)
            if step % setup.every and step != setup.steps:
                continue
            found = validate(average.module)
            if not np.isfinite(found["held_out"]):
                raise FloatingPointError("the error is not finite")
        except FloatingPointError as error:
            raise DataUnusable(
                f"training diverged before step {step}: lower --rate, or train with --precision float32"
            ) from error
        run.record(step=step, **found, **{name: float(np.mean([row[name] for row in rows])) for name in rows[0]})
        bar.write(f"{setup.axis} step {step}: " + ", ".join(f"{name} {value:.5f}" for name, value in found.items()))
        rows.clear()
        is_best, best = found["held_out"] < best, min(found["held_out"], best)
        run.save_average(average, {"step": step, "best": best, **networks.state()}, best=is_best)
    return setup.output / "best.pt"


def update_site_head(networks: Networks, setup: AxisTraining, features: Tensor, site: Tensor) -> dict[str, float]:
    """One update on mean anatomy codes (B, C, h, w), and numbers of their sites (B), that do not learn from it."""
    with autocast(setup.device, setup.precision):
        logits = networks.site_head(features.detach())
        loss = domain_loss(logits, site)
    networks.advance(loss, "site_head")
    return {"site": loss.item(), "site_accuracy": accuracy(logits, site)}


def update_generator(networks: Networks, weights: object, losses: dict[str, Tensor]) -> dict[str, float]:
    """One update by the sum of losses, each times the weight of its name; heads train with the encoder."""
    trained = ["generator", *(["biology"] if "biological" in losses else [])]
    networks.advance(sum(getattr(weights, name) * loss for name, loss in losses.items()), *trained)
    return {name: loss.item() for name, loss in losses.items()}


def update_discriminator(networks: Networks, setup: AxisTraining, real: Tensor, generated: Tensor) -> dict[str, float]:
    """One update on slices (B, 1, H, W); the generator does not learn from it."""
    with autocast(setup.device, setup.precision):
        loss = discriminator_loss(networks.discriminator, real, generated.detach())
    networks.advance(loss, "discriminator")
    return {"discriminator": loss.item()}
