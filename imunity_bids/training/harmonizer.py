"""Train one axis of ImUnity: equations 1 to 5, and the three updates of a batch as in Dinsdale 2020."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from imunity_bids.errors import DataUnusable
from imunity_bids.models.histogram import HistogramNet
from imunity_bids.models.imunity import Architecture, Code, CodeHead, Discriminator, Generator
from imunity_bids.simulation import contrast
from imunity_bids.training.biology import BiologicalHeads, read_feature
from imunity_bids.training.levels import LevelHeads
from imunity_bids.training.run import Run, autocast, moving_average, weights_to_start_with
from imunity_bids.training.slices import Batch, Brain, Pairs, check_batch_size


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


class _Networks:
    """Generator, discriminator and, with two sites or more, the site head; one optimiser each."""

    def __init__(self, setup: HarmonizerTraining, sites: int, brains: list[Brain]):
        size = setup.crop // setup.architecture.multiple
        self.generator = Generator(setup.architecture).to(setup.device, memory_format=torch.channels_last)
        self.discriminator = Discriminator().to(setup.device)
        code = (setup.architecture.code_channels, size, size)
        self.site_head = CodeHead(code, sites).to(setup.device) if sites > 1 and setup.unlearn else None
        self.modules: dict[str, nn.Module] = {"generator": self.generator, "discriminator": self.discriminator}
        if self.site_head is not None:
            self.modules["site_head"] = self.site_head
        if setup.biology:
            features = [read_feature(name, brains) for name in setup.biology]
            self.modules["biology"] = BiologicalHeads(features, code).to(setup.device)
        if setup.weights.levels:
            self.modules["levels"] = LevelHeads(setup.architecture.code_channels).to(setup.device)
        self.optimisers = {
            name: torch.optim.Adam(module.parameters(), lr=setup.rate, betas=(0.5, 0.999))
            for name, module in self.modules.items()
        }
        self.schedules = {
            name: torch.optim.lr_scheduler.OneCycleLR(
                optimiser, setup.rate, setup.steps + 1, pct_start=0.05, cycle_momentum=False
            )
            for name, optimiser in self.optimisers.items()
        }

    def parts(self) -> dict[str, dict]:
        """Everything with a state, for the checkpoint."""
        return {"modules": self.modules, "optimisers": self.optimisers, "schedules": self.schedules}

    def state(self) -> dict:
        return {kind: {n: part.state_dict() for n, part in parts.items()} for kind, parts in self.parts().items()}

    def load(self, state: dict) -> None:
        for kind, parts in self.parts().items():
            for name, part in parts.items():
                part.load_state_dict(state[kind][name])

    def advance(self, loss: Tensor, *names: str) -> None:
        """One update of the named networks."""
        for name in names:
            self.optimisers[name].zero_grad(set_to_none=True)
        loss.backward()
        for name in names:
            nn.utils.clip_grad_norm_(self.modules[name].parameters(), 5.0)
            self.optimisers[name].step()
            self.schedules[name].step()


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
    networks = _Networks(setup, sites, brains)
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
    fixed = _fixed_pairs(setup, Pairs(judges, setup.axis, setup.crop), histogram)
    untouched = float(np.mean([_error(one, target) for one, _, target in fixed]))
    rows: list[dict[str, float]] = []
    bar = tqdm(range(first + 1, setup.steps + 1), initial=first, total=setup.steps, desc=setup.axis, mininterval=5)
    for step in bar:
        g = torch.Generator().manual_seed(setup.seed * 10**7 + step)
        torch.manual_seed(setup.seed * 10**7 + step)  # the latent noise, so that a resumed run is the same run
        rows.append(_step(networks, setup, pairs, g, histogram))
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
    one, two = batch.one, batch.two
    if setup.paper_contrast:
        target = contrast.gamma_curves(len(one), g)
        source = contrast.identity_curves(len(one))
        seen, reference = one, contrast.recolour(two, target)
    else:
        target, source = _random_contrasts(batch.means, g), _random_contrasts(batch.means, g)
        seen = contrast.scanner(contrast.recolour(one, source), g)
        reference = contrast.scanner(contrast.recolour(two, target), g)
    if setup.architecture.prematch:
        seen = contrast.prematch(seen, batch.own, source, batch.other, target, histogram)
    # a scanner's uneven fields are in the images, but not in what is asked for
    return seen, reference, contrast.recolour(one, target.mean(dim=(2, 3), keepdim=True))


def _random_contrasts(means: Tensor, g: torch.Generator) -> Tensor:
    """Curves (B, K, 3, 3): the scan's own contrast, the paper's γ, any monotone curve, or a simulated sequence's."""
    count = len(means)
    kinds = torch.stack(
        [
            contrast.identity_curves(count).expand(-1, -1, 3, 3),
            contrast.gamma_curves(count, g, anchor=contrast.WHITE_MATTER).expand(-1, -1, 3, 3),
            contrast.random_curves(count, g).expand(-1, -1, 3, 3),
            contrast.sequence_curves(means, g, UNEVEN),
        ]
    )
    chosen = torch.multinomial(torch.tensor(KIND_SHARES), count, replacement=True, generator=g)
    return kinds[chosen, torch.arange(count)]


def _step(
    networks: _Networks, setup: HarmonizerTraining, pairs: Pairs, g: torch.Generator, histogram: HistogramNet | None
) -> dict[str, float]:
    """The three updates of a batch: generator, discriminator, site head on frozen features."""
    batch = pairs.batch(setup.batch, g)
    one, two, target = (t.to(setup.device) for t in make_pair(batch, setup, g, histogram))
    reduced = partial(autocast, setup.device, setup.precision)
    with reduced():
        anatomy = networks.generator.anatomy(one)
        style = networks.generator.contrast(two)
        made = networks.generator.decode(anatomy.sample(), style.sample(), one)
        losses = _losses(networks, setup, batch, (one, two, target), made, anatomy, style)
    heads = {"biological": "biology", "levels": "levels"}
    trained = ["generator", *(heads[name] for name in losses if name in heads)]
    networks.advance(sum(getattr(setup.weights, name) * loss for name, loss in losses.items()), *trained)

    numbers = {name: loss.item() for name, loss in losses.items()}
    if setup.weights.adversarial:
        with reduced():
            critic = discriminator_loss(networks.discriminator, target, made.detach())
        networks.advance(critic, "discriminator")
        numbers["discriminator"] = critic.item()
    if networks.site_head is not None:
        site = batch.site.to(setup.device)
        with reduced():
            logits = networks.site_head(anatomy.mean.detach())
            site_loss = F.cross_entropy(logits, site)  # equation 1
        networks.advance(site_loss, "site_head")
        numbers |= {"site": site_loss.item(), "site_accuracy": (logits.argmax(1) == site).float().mean().item()}
    return numbers


def _losses(
    networks: _Networks,
    setup: HarmonizerTraining,
    batch: Batch,
    images: tuple[Tensor, Tensor, Tensor],
    made: Tensor,
    anatomy: Code,
    style: Code,
) -> dict[str, Tensor]:
    """The parts of the generator's loss that have a weight (equations 2 to 5), by the weights' names."""
    from monai.losses import SSIMLoss

    weights, (one, two, target) = setup.weights, images
    mask = target > 0
    losses = {"l1": F.l1_loss(made[mask], target[mask]), "kl": anatomy.kl() + style.kl()}
    if weights.adversarial:
        losses["adversarial"] = _is_real(networks.discriminator(made))
    if weights.ssim:
        with torch.autocast(made.device.type, enabled=False):  # variances are small differences of large numbers
            losses["ssim"] = SSIMLoss(spatial_dims=2, data_range=1.0)(made.float(), target)
    if networks.site_head is not None:
        losses["confusion"] = confusion(networks.site_head(anatomy.mean))
    if setup.biology:
        losses["biological"] = networks.modules["biology"](anatomy.mean, batch.brain)
    if weights.levels:
        losses["levels"] = networks.modules["levels"](anatomy.mean, style.mean, batch, one, two)
    return losses


def confusion(logits: Tensor) -> Tensor:
    """Equation 2: cross-entropy with the uniform distribution over sites."""
    return -F.log_softmax(logits, dim=1).mean()


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
