"""Train one axis of ImUnity (Cackowski 2023, equations 1 to 5).

Each batch updates the site head on the features of the encoder as it is (equation 1), then the generator, whose loss
holds the confusion through the head just updated (equation 2), then the discriminator. Before the first batch the head
alone is trained on the frozen encoder. Head before confusion, and a head that can tell sites before unlearning begins:
both are Dinsdale's (2020, section 2.3).

What differs from Dinsdale 2020: task and confusion are one update of the encoder, as in ImUnity's equation 4, not two;
the task's loss is the mean over all pixels of a batch, not over those of each site (their equation 1); the head is
pretrained on the encoder as it starts (random, or the weights to fine-tune), not on one trained for the task.

What differs from Cackowski 2023: other contrasts than γ (unless `paper_contrast`), SSIM and tissue levels as terms of
the loss (0 in the preset `paper` and in `Weights`), cross-entropy or squared error instead of binary cross-entropy in
equation 3, one-sided label smoothing in the discriminator and Adam's β1 of 0.5 (both as in the authors' code), one
cycle of learning rates over some thousand batches instead of 1e-4 over 300 epochs, clipped gradients, and a moving
average of the weights as the result.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from imunity_bids.errors import DataUnusable
from imunity_bids.models.histogram import HistogramNet
from imunity_bids.models.imunity import Architecture, Code, Discriminator, Generator
from imunity_bids.simulation import contrast
from imunity_bids.training.biology import read_feature
from imunity_bids.training.networks import Networks
from imunity_bids.training.run import Run, autocast, moving_average, weights_to_start_with
from imunity_bids.training.site_unlearning import accuracy, confusion, pretrain_site_head, site_loss
from imunity_bids.training.slices import Batch, Brain, Pairs, check_batch_size

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Weights:
    """λ of equation 4, and of two terms of our own: SSIM, and the tissue levels that the codes must tell."""

    adversarial: float
    confusion: float
    l1: float
    kl: float
    ssim: float
    biological: float
    levels: float = 0


PRESETS = {
    "paper": Weights(adversarial=1, confusion=1, l1=100, kl=1e-3, ssim=0, biological=1),
    "code": Weights(adversarial=2, confusion=0.01, l1=100, kl=1e-6, ssim=1, biological=0.01),
}

KIND_SHARES = (0.15, 0.1, 0.15, 0.6)  # own contrast, γ, random curve, simulated sequence
UNEVEN = 0.15  # largest standard deviation of the transmit field


@dataclass(frozen=True)
class HarmonizerTraining:
    """What decides the weights of one axis, and where they go."""

    output: Path
    axis: str
    architecture: Architecture = field(default_factory=Architecture)
    weights: Weights = PRESETS["code"]
    paper_contrast: bool = False  # γ only, anchored at 1; else also curves, anchored at white matter
    unlearn: bool = True
    site_pretraining: int = 200  # updates of the site head on the frozen encoder, before unlearning begins
    biology: tuple[str, ...] = ()  # columns of participants.tsv that the anatomy code shall keep
    steps: int = 2000
    batch: int = 16
    crop: int = 128
    rate: float = 1e-3
    every: int = 100
    seed: int = 1
    device: str = "cpu"
    precision: str = "float32"
    start: Path | None = None  # best.pt of another axis or run, or a bundle's safetensors


def build_networks(setup: HarmonizerTraining, brains: list[Brain], sites: int) -> Networks:
    """Untrained networks; a site head with two sites or more."""
    return Networks(
        setup.architecture,
        setup.crop,
        sites if setup.unlearn else 0,
        tuple(read_feature(name, brains) for name in setup.biology),
        bool(setup.weights.levels),
        setup.rate,
        setup.steps,
        setup.device,
    )


def train_harmonizer(
    setup: HarmonizerTraining,
    brains: list[Brain],
    sites: int,
    judges: list[Brain],
    histogram: HistogramNet | None = None,
) -> Path:
    """Train, or go on where a killed run stopped; returns the path of the best weights.

    Parameters
    ----------
    judges
        Brains that are not trained on; the mean L1 on fixed pairs of them decides which weights are best.
    histogram
        What comes before the generator at inference, where the input is matched at all.
    """
    check_batch_size(setup.batch, len({brain.site for brain in brains}))
    torch.manual_seed(setup.seed)
    networks = build_networks(setup, brains, sites)
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
        batches = _site_batches(setup, pairs, histogram)
        reached = pretrain_site_head(networks.site_head, networks.generator.anatomy, batches, setup.rate)
        log.info("%s: site head before unlearning: accuracy %s", setup.axis, reached)
    fixed = _fixed_pairs(setup, Pairs(judges, setup.axis, setup.crop), histogram)
    untouched = float(np.mean([_error(one, target) for one, _, target in fixed]))
    rows: list[dict[str, float]] = []
    bar = tqdm(range(first + 1, setup.steps + 1), initial=first, total=setup.steps, desc=setup.axis, mininterval=5)
    for step in bar:
        g = torch.Generator().manual_seed(setup.seed * 10**7 + step)
        torch.manual_seed(setup.seed * 10**7 + step)  # the latent noise, so that a resumed run is the same run
        rows.append(update(networks, setup, pairs, g, histogram))
        average.update_parameters(networks.generator)
        if step % setup.every and step != setup.steps:
            continue
        error = _judge(average.module, fixed)
        if not np.isfinite(error):
            raise DataUnusable(f"training diverged before step {step}: lower --rate, or train with --precision float32")
        run.record(step=step, judge=error, **{name: float(np.mean([row[name] for row in rows])) for name in rows[0]})
        bar.write(f"{setup.axis} step {step}: L1 on held-out brains {error:.5f} (untouched {untouched:.5f})")
        rows.clear()
        is_best, best = error < best, min(error, best)
        run.save(average, {"step": step, "best": best, **networks.state()}, best=is_best)
    return setup.output / "best.pt"


def make_pair(
    batch: Batch, setup: HarmonizerTraining, g: torch.Generator, histogram: HistogramNet | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """S1 as the generator sees it, S2γ and the target S1γ: ONE new contrast per pair, another one for the input."""
    if setup.paper_contrast:
        gamma = contrast.draw_gamma(len(batch.one), g)
        seen, reference, target = batch.one, *(contrast.gamma_corrected(t, gamma) for t in (batch.two, batch.one))
        own, wanted = batch.own, batch.other.pow(gamma)
    else:
        curves, source = _random_contrasts(batch.means, g), _random_contrasts(batch.means, g)
        seen = contrast.scanner(contrast.recolour(batch.one, source), g)
        reference = contrast.scanner(contrast.recolour(batch.two, curves), g)
        # a scanner's uneven fields are in the images, but not in what is asked for
        target = contrast.recolour(batch.one, curves.mean(dim=(2, 3), keepdim=True))
        own, wanted = contrast.quantiles_after(batch.own, source), contrast.quantiles_after(batch.other, curves)
    if setup.architecture.prematch:
        seen = contrast.prematch(seen, own, wanted, histogram)
    return seen, reference, target


def _random_contrasts(means: Tensor, g: torch.Generator) -> Tensor:
    """Curves (B, K, 3, 3): the scan's own contrast, the paper's γ, any monotone curve, or a simulated sequence's."""
    count = len(means)
    kinds = torch.stack(
        [
            contrast.identity_curves(count).expand(-1, -1, 3, 3),
            contrast.gamma_curves(count, g).expand(-1, -1, 3, 3),
            contrast.random_curves(count, g).expand(-1, -1, 3, 3),
            contrast.sequence_curves(means, g, UNEVEN),
        ]
    )
    chosen = torch.multinomial(torch.tensor(KIND_SHARES), count, replacement=True, generator=g)
    return kinds[chosen, torch.arange(count)]


class _Pass(NamedTuple):
    """One batch through the generator: slices (B, 1, H, W) and codes."""

    seen: Tensor  # S1 as the generator sees it
    reference: Tensor  # S2γ
    target: Tensor  # S1γ
    anatomy: Code
    contrast: Code
    generated: Tensor


def update(
    networks: Networks,
    setup: HarmonizerTraining,
    pairs: Pairs,
    g: torch.Generator,
    histogram: HistogramNet | None = None,
) -> dict[str, float]:
    """Draw a batch and update site head, generator and discriminator, in this order; gives the losses back."""
    batch = pairs.batch(setup.batch, g)
    seen, reference, target = (t.to(setup.device) for t in make_pair(batch, setup, g, histogram))
    with autocast(setup.device, setup.precision):
        anatomy = networks.generator.anatomy(seen)
        contrast_code = networks.generator.contrast(reference)
        generated = networks.generator.decode(anatomy.sample(), contrast_code.sample(), seen)
    passed = _Pass(seen, reference, target, anatomy, contrast_code, generated)
    numbers = _update_site_head(networks, setup, batch, anatomy) if networks.site_head is not None else {}
    numbers |= _update_generator(networks, setup, batch, passed)
    if setup.weights.adversarial:
        numbers |= _update_discriminator(networks, setup, passed)
    return numbers


def _update_site_head(networks: Networks, setup: HarmonizerTraining, batch: Batch, anatomy: Code) -> dict[str, float]:
    site = batch.site.to(setup.device)
    with autocast(setup.device, setup.precision):
        logits = networks.site_head(anatomy.mean.detach())
        loss = site_loss(logits, site)
    networks.advance(loss, "site_head")
    return {"site": loss.item(), "site_accuracy": accuracy(logits, site)}


def _update_generator(networks: Networks, setup: HarmonizerTraining, batch: Batch, passed: _Pass) -> dict[str, float]:
    with autocast(setup.device, setup.precision):
        losses = _generator_losses(networks, setup, batch, passed)
    heads = {"biological": "biology", "levels": "levels"}  # trained together with the encoder
    trained = ["generator", *(heads[name] for name in losses if name in heads)]
    networks.advance(sum(getattr(setup.weights, name) * loss for name, loss in losses.items()), *trained)
    return {name: loss.item() for name, loss in losses.items()}


def _update_discriminator(networks: Networks, setup: HarmonizerTraining, passed: _Pass) -> dict[str, float]:
    with autocast(setup.device, setup.precision):
        loss = discriminator_loss(networks.discriminator, passed.target, passed.generated.detach())
    networks.advance(loss, "discriminator")
    return {"discriminator": loss.item()}


def _generator_losses(networks: Networks, setup: HarmonizerTraining, batch: Batch, passed: _Pass) -> dict[str, Tensor]:
    """The parts of the generator's loss that have a weight (equations 2 to 5), by the weights' names."""
    from monai.losses import SSIMLoss

    weights, target, generated = setup.weights, passed.target, passed.generated
    anatomy, contrast_code = passed.anatomy, passed.contrast
    mask = target > 0
    losses = {"l1": F.l1_loss(generated[mask], target[mask]), "kl": anatomy.kl() + contrast_code.kl()}
    if weights.adversarial:
        losses["adversarial"] = _is_real(networks.discriminator(generated))
    if weights.ssim:
        with torch.autocast(generated.device.type, enabled=False):  # variances are small differences of large numbers
            losses["ssim"] = SSIMLoss(spatial_dims=2, data_range=1.0)(generated.float(), target)
    if networks.site_head is not None:
        losses["confusion"] = confusion(networks.site_head(anatomy.mean))
    if setup.biology:
        losses["biological"] = networks.modules["biology"](anatomy.mean, batch.brain)
    if weights.levels:
        losses["levels"] = networks.modules["levels"](
            anatomy.mean, contrast_code.mean, batch, passed.seen, passed.reference
        )
    return losses


def _site_batches(
    setup: HarmonizerTraining, pairs: Pairs, histogram: HistogramNet | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Slices as the generator will see them, and their sites; drawn from other random numbers than the training's."""
    for step in range(setup.site_pretraining):
        g = torch.Generator().manual_seed(setup.seed * 10**7 - 1 - step)
        batch = pairs.batch(setup.batch, g)
        yield make_pair(batch, setup, g, histogram)[0].to(setup.device), batch.site.to(setup.device)


def discriminator_loss(discriminator: Discriminator, real: Tensor, generated: Tensor) -> Tensor:
    """Mean of two binary cross-entropies (section 2.3), real slices being real to 0.9 only (one-sided smoothing).

    Slices are (B, 1, H, W). Real and generated ones pass one after the other, so that the batch norm of neither knows
    of the other; the generator's own pass, too, holds generated ones alone.
    """
    return 0.5 * (_is_real(discriminator(real), smooth=0.9) + F.softplus(discriminator(generated)).mean())


def _is_real(logits: Tensor, smooth: float = 1.0) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, smooth))


@torch.inference_mode()
def _judge(generator: Generator, fixed: list[tuple[Tensor, Tensor, Tensor]]) -> float:
    """Mean L1 inside the brain on fixed pairs of brains that were not trained on."""
    return float(np.mean([_error(generator(one, generator.contrast(two).mean), target) for one, two, target in fixed]))


def _error(made: Tensor, target: Tensor) -> float:
    return (made - target).abs()[target > 0].mean().item()


def _fixed_pairs(
    setup: HarmonizerTraining, judge: Pairs, histogram: HistogramNet | None
) -> list[tuple[Tensor, Tensor, Tensor]]:
    g = torch.Generator().manual_seed(0)
    batches = [judge.batch(max(16, len(judge.by_site)), g) for _ in range(4)]
    return [tuple(t.to(setup.device) for t in make_pair(batch, setup, g, histogram)) for batch in batches]
