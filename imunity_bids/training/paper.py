"""Train one axis of the paper's generator (Cackowski 2023, equations 1 to 5): γ only, pixels from codes.

Each batch updates the site head on the features of the encoder as it is (equation 1), then the generator, whose loss
holds the confusion through the head just updated (equation 2), then the discriminator. Before the first batch the head
alone is trained on the frozen encoder. Head before confusion, and a head that can tell sites before unlearning begins:
both are Dinsdale's (2020, section 2.3).

What differs from the paper: cross-entropy or squared error instead of binary cross-entropy in equation 3, one-sided
label smoothing in the discriminator and Adam's β1 of 0.5 (both as in the authors' code), one cycle of learning rates
instead of 1e-4 over 300 epochs, clipped gradients, and a moving average of the weights as the result.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from imunity_bids.errors import DataUnusable
from imunity_bids.models.imunity import Code
from imunity_bids.models.paper import AnatomyEncoder, PaperArchitecture, PaperGenerator
from imunity_bids.training.biology import Feature
from imunity_bids.training.checkpoints import Run, autocast, moving_average, weights_to_start_with
from imunity_bids.training.dataset import Brain
from imunity_bids.training.losses import PRESETS, Forward, Weights, discriminator_loss, generator_losses
from imunity_bids.training.networks import Networks
from imunity_bids.training.pairs import Batch, Example, Pairs, check_batch_size, make_example
from imunity_bids.training.site_unlearning import accuracy, pretrain_site_head
from imunity_bids.unlearning.losses import domain_loss

log = logging.getLogger(__name__)

VALIDATION_BATCHES, VALIDATION_BATCH = 4, 16


@dataclass(frozen=True)
class PaperTraining:
    """What decides the weights of one axis, and where they go."""

    output: Path
    axis: str
    architecture: PaperArchitecture = field(default_factory=PaperArchitecture)
    weights: Weights = PRESETS["paper"]
    unlearn: bool = True
    site_pretraining: int = 200  # updates of the site head on the frozen encoder, before unlearning begins
    steps: int = 20_000
    batch: int = 16
    crop: int = 128
    rate: float = 1e-3
    every: int = 100
    seed: int = 1
    device: str = "cpu"
    precision: str = "float32"
    start: Path | None = None  # best.pt of another axis or run, or a bundle's safetensors


def build_networks(setup: PaperTraining, sites: int, features: tuple[Feature, ...] = ()) -> Networks:
    """Untrained networks; a site head with two sites or more."""
    side = setup.crop // setup.architecture.multiple
    return Networks(
        PaperGenerator(setup.architecture),
        (setup.architecture.code_channels, side, side),
        sites if setup.unlearn else 0,
        features,
        bool(setup.weights.adversarial),
        setup.rate,
        setup.steps,
        setup.device,
    )


def train_paper(
    setup: PaperTraining,
    brains: list[Brain],
    sites: int,
    held_out: list[Brain],
    features: tuple[Feature, ...] = (),
    watch: Callable[[int], None] | None = None,
) -> Path:
    """Train, or go on where a killed run stopped; returns the path of the best weights.

    Parameters
    ----------
    sites
        How many there are; with two or more the anatomy code unlearns them.
    held_out
        Brains that are not trained on; the mean L1 on fixed pairs of them decides which weights are best.
    features
        Biological features that the anatomy code shall keep.
    watch
        Called with the number of each batch, from 1, before it.

    Raises
    ------
    Usage
        There are more sites than slices in a batch.
    DataUnusable
        The training diverged, or its folder holds a run of an earlier version.
    """
    check_batch_size(setup.batch, sites)
    torch.manual_seed(setup.seed)
    networks = build_networks(setup, sites, features)
    if setup.start is not None:
        networks.generator.load_state_dict(weights_to_start_with(setup.start))
    average = moving_average(networks.generator)
    run = Run(setup.output)
    first, best = 0, float("inf")
    if state := run.load():
        networks.load(state)
        average.load_state_dict(state["average"])
        first, best = state["step"], state["best"]

    pairs = Pairs(brains, setup.axis, setup.crop)
    if networks.site_head is not None and first == 0:  # a run that was killed in here begins here again
        batches = _site_batches(setup, pairs, networks.generator.anatomy)
        reached = pretrain_site_head(networks.site_head, batches, setup.rate)
        log.info("%s: accuracy of the site head before unlearning: %s", setup.axis, reached)
    examples = _validation_examples(setup, Pairs(held_out, setup.axis, setup.crop))
    untouched = float(np.mean([_error(slices.seen, slices.target) for slices in examples]))
    rows: list[dict[str, float]] = []
    bar = tqdm(range(first + 1, setup.steps + 1), initial=first, total=setup.steps, desc=setup.axis, mininterval=5)
    for step in bar:
        if watch is not None:
            watch(step)
        g = torch.Generator().manual_seed(setup.seed * 10**7 + step)
        torch.manual_seed(setup.seed * 10**7 + step)  # the latent noise, so that a resumed run is the same run
        rows.append(update(networks, setup, pairs, g))
        average.update_parameters(networks.generator)
        if step % setup.every and step != setup.steps:
            continue
        error = _validate(average.module, examples)
        if not np.isfinite(error):
            raise DataUnusable(f"training diverged before step {step}: lower --rate, or train with --precision float32")
        run.record(step=step, held_out=error, **{name: float(np.mean([row[name] for row in rows])) for name in rows[0]})
        bar.write(f"{setup.axis} step {step}: L1 on held-out brains {error:.5f} (untouched {untouched:.5f})")
        rows.clear()
        is_best, best = error < best, min(error, best)
        run.save(average, {"step": step, "best": best, **networks.state()}, best=is_best)
    return setup.output / "best.pt"


def update(
    networks: Networks,
    setup: PaperTraining,
    pairs: Pairs,
    g: torch.Generator,
) -> dict[str, float]:
    """Draw a batch and update site head, generator and discriminator, in this order; gives the losses back."""
    batch = pairs.batch(setup.batch, g)
    slices = _example(batch, setup, g)
    with autocast(setup.device, setup.precision):
        anatomy = networks.generator.anatomy(slices.seen)
        contrast = networks.generator.contrast(slices.reference)
        generated = networks.generator.decode(anatomy.sample(), contrast.sample(), slices.seen)
    forward = Forward(slices, anatomy, contrast, generated)
    numbers = _update_site_head(networks, setup, batch, anatomy) if networks.site_head is not None else {}
    numbers |= _update_generator(networks, setup, batch, forward)
    if setup.weights.adversarial:
        numbers |= _update_discriminator(networks, setup, forward)
    return numbers


def _update_site_head(networks: Networks, setup: PaperTraining, batch: Batch, anatomy: Code) -> dict[str, float]:
    site = batch.site.to(setup.device)
    with autocast(setup.device, setup.precision):
        logits = networks.site_head(anatomy.mean.detach())
        loss = domain_loss(logits, site)
    networks.advance(loss, "site_head")
    return {"site": loss.item(), "site_accuracy": accuracy(logits, site)}


def _update_generator(networks: Networks, setup: PaperTraining, batch: Batch, forward: Forward) -> dict[str, float]:
    with autocast(setup.device, setup.precision):
        losses = generator_losses(networks, setup.weights, batch, forward)
    trained = ["generator", *(["biology"] if "biological" in losses else [])]  # heads train with the encoder
    networks.advance(sum(getattr(setup.weights, name) * loss for name, loss in losses.items()), *trained)
    return {name: loss.item() for name, loss in losses.items()}


def _update_discriminator(networks: Networks, setup: PaperTraining, forward: Forward) -> dict[str, float]:
    with autocast(setup.device, setup.precision):
        loss = discriminator_loss(networks.discriminator, forward.slices.target, forward.generated.detach())
    networks.advance(loss, "discriminator")
    return {"discriminator": loss.item()}


def _example(batch: Batch, setup: PaperTraining, g: torch.Generator) -> Example:
    example = make_example(batch, g)
    return Example(*(slices.to(setup.device) for slices in example))


def _site_batches(setup: PaperTraining, pairs: Pairs, encoder: AnatomyEncoder) -> Iterator[tuple[Tensor, Tensor]]:
    """Codes of slices as the generator will see them, and their sites; by other random numbers than the training's."""
    for step in range(setup.site_pretraining):
        g = torch.Generator().manual_seed(setup.seed * 10**7 - 1 - step)
        batch = pairs.batch(setup.batch, g)
        with torch.no_grad():
            features = encoder(_example(batch, setup, g).seen).mean
        yield features, batch.site.to(setup.device)


def _validation_examples(setup: PaperTraining, pairs: Pairs) -> list[Example]:
    """The same ones whatever the seed of the training."""
    g = torch.Generator().manual_seed(0)
    batches = [pairs.batch(max(VALIDATION_BATCH, len(pairs.by_site)), g) for _ in range(VALIDATION_BATCHES)]
    return [_example(batch, setup, g) for batch in batches]


@torch.inference_mode()
def _validate(generator: PaperGenerator, examples: list[Example]) -> float:
    """Mean over examples of the mean absolute error inside the brain."""
    errors = [
        _error(generator(slices.seen, generator.contrast(slices.reference).mean), slices.target) for slices in examples
    ]
    return float(np.mean(errors))


def _error(image: Tensor, target: Tensor) -> float:
    return (image - target).abs()[target > 0].mean().item()
