"""Train one axis of our generator on simulated visits whose truth is known.

Each batch holds persons on several scanners; every two of them are a scan to harmonize and a reference of another
person. The curve for the whole brain and the expected error are trained together. With several sites,
or biological features to keep, slices of the real scans go through the same generator: their anatomy codes unlearn the
site (Cackowski 2023, equations 1 and 2; Dinsdale 2020, section 2.3: a head that can tell sites before unlearning
begins, and the head's update before the confusion) and must tell the features (equation 3). The discriminator, where it
has a weight, compares what is generated with truths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from imunity_bids.models.imunity import (
    LEAST_ERROR,
    Architecture,
    Code,
    Contrast,
    Generator,
    Result,
    after_curve,
    one_scan,
)
from imunity_bids.training.biology import Feature
from imunity_bids.training.checkpoints import autocast
from imunity_bids.training.loop import (
    AxisTraining,
    train_axis,
    update_discriminator,
    update_generator,
    update_site_head,
)
from imunity_bids.training.losses import should_be
from imunity_bids.training.networks import Networks
from imunity_bids.training.real_slices import RealBatch, RealSlices
from imunity_bids.training.visit_batches import CURVE_VOXELS, PURE_VOXELS, Batch, VisitBatches
from imunity_bids.unlearning.losses import confusion_loss

VALIDATION_BATCHES = 24
BETAS = (0.9, 0.999)


@dataclass(frozen=True)
class CurveWeights:
    """Of the parts of the loss. Those of the paper's equation 4 are relative to an L1 of 1, not of 100."""

    curve: float = 2.0  # L1 of voxels after the curve
    levels: float = 1.0  # and of the means well inside CSF, gray and white matter: few voxels hold CSF alone
    error: float = 0.01  # negative log-likelihood of the errors, exponentially distributed
    kl: float = 1e-5
    confusion: float = 0.01
    biological: float = 0.01
    adversarial: float = 0.0


@dataclass(frozen=True)
class HarmonizerTraining(AxisTraining):
    """What decides the weights of one axis of ours."""

    architecture: Architecture = field(default_factory=Architecture)
    weights: CurveWeights = field(default_factory=CurveWeights)


class Data(NamedTuple):
    """What an axis learns from and is validated on."""

    visits: VisitBatches
    held_out: VisitBatches
    real: RealSlices | None = None  # there are none where nothing is unlearned or kept
    features: tuple[Feature, ...] = ()


class Forward(NamedTuple):
    """One batch through the generator."""

    code: Code  # of the contrasts of all volumes
    curved: Tensor  # some voxels of every pair after the curve, (P, N)
    result: Result  # of the slices
    real: Result | None  # of the slices of real scans


def train_harmonizer(setup: HarmonizerTraining, data: Data, watch: Callable[[int], None] | None = None) -> Path:
    """The path of the best weights; see `train_axis`."""
    torch.manual_seed(setup.seed)
    networks = build_networks(setup, data)
    examples = [data.held_out.batch(torch.Generator().manual_seed(number)) for number in range(VALIDATION_BATCHES)]
    return train_axis(
        setup,
        networks,
        _site_batches(networks, setup, data),
        lambda step: update(networks, setup, data, step),
        lambda generator: validate(generator, examples, setup.device),
        watch,
    )


def build_networks(setup: HarmonizerTraining, data: Data) -> Networks:
    """Untrained networks; a site head with two sites or more."""
    sites = data.real.sites if data.real is not None and setup.unlearn else 0
    multiple = setup.architecture.multiple
    code = (setup.architecture.code, *(-(-size // multiple) for size in data.visits.shape))
    return Networks(
        Generator(setup.architecture),
        code,
        sites,
        data.features,
        bool(setup.weights.adversarial),
        setup.rate,
        setup.steps,
        setup.device,
        BETAS,
    )


def update(networks: Networks, setup: HarmonizerTraining, data: Data, step: int) -> dict[str, float]:
    """Draw batch `step` and update site head, generator and discriminator, in this order; gives the losses back."""
    batch, real = _draw(setup, data, step, setup.random(step))
    with autocast(setup.device, setup.precision):
        forward = run_batch(networks.generator, batch, real)
    numbers = {}
    if networks.site_head is not None:
        numbers |= update_site_head(networks, setup, forward.real.anatomy.mean, real.site)
    with autocast(setup.device, setup.precision):
        losses = generator_losses(networks, setup.weights, batch, real, forward)
    numbers |= update_generator(networks, setup.weights, losses)
    if setup.weights.adversarial:
        numbers |= update_discriminator(networks, setup, batch.truth, forward.result.harmonized)
    return numbers


def run_batch(generator: Generator, batch: Batch, real: RealBatch | None = None) -> Forward:
    """Codes are sampled while the generator is in training, else their means are taken.

    Raises
    ------
    FloatingPointError
        The generator has diverged.
    """
    volumes = [batch, real] if real is not None else [batch]
    quantiles = torch.cat([volume.quantiles for volume in volumes])
    code = generator.contrast(
        torch.cat([volume.code_slices for volume in volumes]),
        torch.cat([volume.code_places for volume in volumes]),
        quantiles,
    )
    codes = (code.sample() if generator.training else code.mean).float()

    own, wanted = one_scan(codes[batch.source], quantiles[batch.source]), _reference(batch, codes, quantiles)
    aims = generator.curve(own, wanted).float()
    if not aims.isfinite().all():
        raise FloatingPointError("the curves are not finite")
    curved = after_curve(batch.values[batch.source], own.quantiles, aims)
    result = _slices(generator, batch, own, wanted, aims)
    of_real = None
    if real is not None:
        own = one_scan(codes[len(batch.quantiles) :], quantiles[len(batch.quantiles) :])
        wanted = one_scan(codes[real.target], quantiles[real.target])
        of_real = _slices(generator, real, own, wanted, generator.curve(own, wanted).float())
    return Forward(code, curved, result, of_real)


def _reference(batch: Batch, codes: Tensor, quantiles: Tensor) -> Contrast:
    """Means over the volumes of each pair's reference; codes and quantiles are those of all volumes."""
    volumes = len(batch.quantiles)
    brains = (batch.reference > 0).sum(dim=1, keepdim=True).float()
    return Contrast(batch.reference @ codes[:volumes], batch.reference @ quantiles[:volumes], brains)


def _slices(generator: Generator, batch: Batch | RealBatch, own: Contrast, wanted: Contrast, aims: Tensor) -> Result:
    """Slices of a batch through curves and error maps; contrasts and `aims`, quantiles (P, Q), are those of pairs."""
    image, pair = batch.image, batch.pair
    curved = after_curve(image.flatten(1), own.quantiles[pair], aims[pair]).reshape(image.shape)
    return generator(image, curved * (image > 0), batch.places, own.code[pair], wanted.code[pair])


def generator_losses(
    networks: Networks, weights: CurveWeights, batch: Batch, real: RealBatch | None, forward: Forward
) -> dict[str, Tensor]:
    """Parts of the generator's loss, each a scalar, by the names of their weights."""
    inside = batch.image > 0
    result = forward.result
    error = (result.harmonized - batch.truth).abs()
    log_error = result.log_error.float()
    likelihood = log_error + (error.detach() + LEAST_ERROR) * (-log_error).exp()
    losses = {
        "curve": F.l1_loss(forward.curved[:, :CURVE_VOXELS], batch.wanted[:, :CURVE_VOXELS]),
        "levels": F.l1_loss(*(tissue_means(values) for values in (forward.curved, batch.wanted))),
        "error": likelihood[inside].mean(),
        "kl": (forward.code.kl() + result.anatomy.kl()).float(),
    }
    if weights.adversarial:
        losses["adversarial"] = should_be(networks.discriminator(result.harmonized), 1.0)
    if networks.site_head is not None:
        losses["confusion"] = confusion_loss(networks.site_head(forward.real.anatomy.mean))
    if "biology" in networks.modules:
        losses["biological"] = networks.modules["biology"](forward.real.anatomy.mean, real.brain)
    return losses


def tissue_means(values: Tensor) -> Tensor:
    """Of a batch's `values` (B, N + 3 M) the means well inside each tissue, (B, 3)."""
    return values[:, CURVE_VOXELS:].unflatten(1, (-1, PURE_VOXELS)).mean(dim=2)


def _site_batches(networks: Networks, setup: HarmonizerTraining, data: Data) -> Iterator[tuple[Tensor, Tensor]]:
    """Codes of real slices by the encoder as it is, and their sites; by other random numbers than the training's."""
    for step in range(setup.site_pretraining):
        batch, real = _draw(setup, data, step, setup.random(-1 - step))
        with torch.no_grad():
            features = run_batch(networks.generator, batch, real).real.anatomy.mean
        yield features, real.site


def _draw(setup: HarmonizerTraining, data: Data, step: int, g: torch.Generator) -> tuple[Batch, RealBatch | None]:
    batch = data.visits.batch(g)
    real = None if data.real is None else data.real.batch(step, len(batch.quantiles), g)
    return _to(batch, setup.device), None if real is None else _to(real, setup.device)


def _to(batch: Batch | RealBatch, device: str) -> Batch | RealBatch:
    return type(batch)(*(tensor.to(device) for tensor in batch))


@torch.inference_mode()
def validate(generator: Generator, examples: list[Batch], device: str = "cpu") -> dict[str, float]:
    """Mean absolute errors on slices of persons that were not learned from: of the result, of
    histogram matching and of nothing done; and the mean of the errors to expect."""
    rows = []
    for example in examples:
        batch = _to(example, device)
        result = run_batch(generator, batch).result
        inside, pair = batch.image > 0, batch.pair
        quantiles = (batch.quantiles[batch.source[pair]], (batch.reference @ batch.quantiles)[pair])
        matched = after_curve(batch.image.flatten(1), *quantiles).reshape(batch.image.shape)
        images = {
            "held_out": result.harmonized,
            "matching": matched,
            "untouched": batch.image,
        }
        errors = {name: (image - batch.truth).abs()[inside].mean().item() for name, image in images.items()}
        rows.append(errors | {"expected": (result.log_error.exp() - LEAST_ERROR)[inside].mean().item()})
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
