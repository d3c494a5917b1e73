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

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from imunity_bids.models.paper import AnatomyEncoder, PaperArchitecture, PaperGenerator
from imunity_bids.training.biology import Feature
from imunity_bids.training.checkpoints import autocast
from imunity_bids.training.dataset import Brain
from imunity_bids.training.loop import (
    AxisTraining,
    train_axis,
    update_discriminator,
    update_generator,
    update_site_head,
)
from imunity_bids.training.losses import PRESETS, Forward, Weights, generator_losses
from imunity_bids.training.networks import Networks
from imunity_bids.training.pairs import Batch, Example, Pairs, make_example

VALIDATION_BATCHES, VALIDATION_BATCH = 4, 16


@dataclass(frozen=True)
class PaperTraining(AxisTraining):
    """What decides the weights of one axis of the paper's."""

    every: int = 100
    architecture: PaperArchitecture = field(default_factory=PaperArchitecture)
    weights: Weights = PRESETS["paper"]
    batch: int = 16
    crop: int = 128


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
    """The path of the best weights; see `train_axis`.

    Parameters
    ----------
    sites
        How many there are; with two or more the anatomy code unlearns them.
    held_out
        Brains that are not trained on; the mean L1 on fixed pairs of them decides which weights are best.
    features
        Biological features that the anatomy code shall keep.
    watch
        As in `train_axis`.

    Raises
    ------
    Usage
        There are more sites than slices in a batch.
    """
    torch.manual_seed(setup.seed)
    networks = build_networks(setup, sites, features)
    pairs = Pairs(brains, setup.axis, setup.crop, setup.batch, setup.seed)
    examples = _validation_examples(setup, held_out)
    untouched = float(np.mean([_error(slices.seen, slices.target) for slices in examples]))
    return train_axis(
        setup,
        networks,
        _site_batches(setup, pairs, networks.generator.anatomy),
        lambda step: update(networks, setup, pairs, step),
        lambda generator: {"held_out": _validate(generator, examples), "untouched": untouched},
        watch,
    )


def update(networks: Networks, setup: PaperTraining, pairs: Pairs, step: int) -> dict[str, float]:
    """Draw batch `step` and update site head, generator and discriminator, in this order; gives the losses back."""
    g = setup.random(step)
    batch = pairs.batch(step, g)
    slices = _example(batch, setup, g)
    with autocast(setup.device, setup.precision):
        anatomy = networks.generator.anatomy(slices.seen)
        contrast = networks.generator.contrast(slices.reference)
        generated = networks.generator.decode(anatomy.sample(), contrast.sample(), slices.seen)
    forward = Forward(slices, anatomy, contrast, generated)
    numbers = {}
    if networks.site_head is not None:
        numbers |= update_site_head(networks, setup, anatomy.mean, batch.site.to(setup.device))
    with autocast(setup.device, setup.precision):
        losses = generator_losses(networks, setup.weights, batch, forward)
    numbers |= update_generator(networks, setup.weights, losses)
    if setup.weights.adversarial:
        numbers |= update_discriminator(networks, setup, slices.target, generated)
    return numbers


def _example(batch: Batch, setup: PaperTraining, g: torch.Generator) -> Example:
    example = make_example(batch, g)
    return Example(*(slices.to(setup.device) for slices in example))


def _site_batches(setup: PaperTraining, pairs: Pairs, encoder: AnatomyEncoder) -> Iterator[tuple[Tensor, Tensor]]:
    """Codes of slices as the generator will see them, and their sites; by other random numbers than the training's."""
    for step in range(setup.site_pretraining):
        g = setup.random(-1 - step)
        batch = pairs.batch(step, g)
        with torch.no_grad():
            features = encoder(_example(batch, setup, g).seen).mean
        yield features, batch.site.to(setup.device)


def _validation_examples(setup: PaperTraining, brains: list[Brain]) -> list[Example]:
    """The same ones whatever the seed of the training."""
    size = max(VALIDATION_BATCH, len({brain.site for brain in brains}))
    pairs, g = Pairs(brains, setup.axis, setup.crop, size), torch.Generator().manual_seed(0)
    return [_example(pairs.batch(step, g), setup, g) for step in range(VALIDATION_BATCHES)]


@torch.inference_mode()
def _validate(generator: PaperGenerator, examples: list[Example]) -> float:
    """Mean over examples of the mean absolute error inside the brain."""
    errors = [
        _error(generator(slices.seen, generator.contrast(slices.reference).mean), slices.target) for slices in examples
    ]
    return float(np.mean(errors))


def _error(image: Tensor, target: Tensor) -> float:
    return (image - target).abs()[target > 0].mean().item()
