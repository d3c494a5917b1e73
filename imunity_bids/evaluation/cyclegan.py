"""CycleGAN (Zhu 2017, arXiv:1703.10593) as a comparator: slices of two scanners, of other persons each, no pairs.

Networks and losses are MONAI's: a generator of two strides, residual units and two transposed strides; a patch
discriminator; least squares. Small, for one core of a CPU; no weights are shipped.
"""

from __future__ import annotations

import itertools
import logging
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imunity_bids.harmonize.slices import from_slices, pad_to_multiple, to_slices
from imunity_bids.unlearning.journal import Journal

log = logging.getLogger(__name__)
AXIS = "axial"
MULTIPLE = 4  # two strides
START = 0.02  # standard deviation of the weights


@dataclass(frozen=True)
class CycleGan:
    """How it is trained. Weights of the losses and the rate are the paper's (sections 4, 5.2)."""

    steps: int = 1000  # a slice of either scanner each
    seed: int = 0
    width: int = 16  # channels of the first layer; the paper's is 64
    blocks: int = 6
    cycle: float = 10.0
    identity: float = 5.0
    rate: float = 2e-4  # falls to 0 in the second half
    every: int = 100  # steps between checkpoints


class Translator(nn.Module):
    """From one scanner to the other, slices (N, 1, H, W) -> the same shape, in [0, 1], 0 where they are 0.

    It is not the change that is learned: behind instance normalisation a slice's own level is not seen any more.
    """

    def __init__(self, width: int, blocks: int):
        from monai.networks.nets import AutoEncoder

        super().__init__()
        channels = (width, 2 * width, 4 * width)
        self.network = AutoEncoder(
            2, 1, 1, channels, (1, 2, 2), inter_channels=(channels[-1],) * blocks, num_inter_units=2, norm="instance"
        )

    def forward(self, slices: Tensor) -> Tensor:
        """Slices as the other scanner would show them."""
        return self.network(slices).sigmoid() * (slices > 0)


class _Networks(nn.ModuleDict):
    """Both translators, both discriminators."""

    def __init__(self, setup: CycleGan):
        from monai.networks.nets import PatchDiscriminator

        def judge() -> nn.Module:
            return PatchDiscriminator(2, setup.width, in_channels=1, num_layers_d=3, norm="INSTANCE")

        there, back = (Translator(setup.width, setup.blocks) for _ in range(2))
        super().__init__({"there": there, "back": back, "judge_there": judge(), "judge_back": judge()})
        for name, weights in self.named_parameters():
            if weights.ndim > 1:
                nn.init.normal_(weights, 0.0, START)
            elif name.endswith("bias"):
                nn.init.zeros_(weights)

    def losses(self, source: Tensor, target: Tensor, setup: CycleGan) -> tuple[Tensor, Tensor, dict[str, float]]:
        """Of the translators, of the discriminators (equations 1 to 3), and what is logged; slices (1, 1, H, W)."""
        fake_target, fake_source = self["there"](source), self["back"](target)
        cycle = F.l1_loss(self["back"](fake_target), source) + F.l1_loss(self["there"](fake_source), target)
        identity = F.l1_loss(self["there"](target), target) + F.l1_loss(self["back"](source), source)
        pairs = (("judge_there", fake_target, target), ("judge_back", fake_source, source))
        fooled = sum(_off(self[judge](fake)[-1], 1.0) for judge, fake, _ in pairs)
        told = sum(
            _off(self[judge](real)[-1], 1.0) + _off(self[judge](fake.detach())[-1], 0.0) for judge, fake, real in pairs
        )
        translators = fooled + setup.cycle * cycle + setup.identity * identity
        logged = {"fooled": fooled, "cycle": cycle, "identity": identity}
        return translators, told / 2, {name: float(loss.detach()) for name, loss in logged.items()}


def train_cyclegan(source: Tensor, target: Tensor, setup: CycleGan, folder: Path) -> tuple[Translator, float]:
    """The translator to the target's scanner, and the seconds that its training took.

    Parameters
    ----------
    source, target
        Slices (N, 1, H, W) of brains in [0, 1], 0 outside, both with H and W that `MULTIPLE` divides.
    folder
        Of checkpoints, from which a killed training goes on, and the log.
    """
    torch.manual_seed(setup.seed)
    networks, journal, began = _Networks(setup), Journal(folder), time.monotonic()
    optimizers = [
        torch.optim.Adam(itertools.chain(*(networks[name].parameters() for name in names)), setup.rate, (0.5, 0.999))
        for names in (("there", "back"), ("judge_there", "judge_back"))
    ]
    first, spent = _go_on(journal, networks, optimizers)
    for step in range(first, setup.steps):
        rng = np.random.default_rng([setup.seed, step])
        shown = [slices[[int(rng.integers(len(slices)))]] for slices in (source, target)]
        losses = _step(networks, optimizers, shown, setup, step)
        if (step + 1) % setup.every == 0 or step + 1 == setup.steps:
            seconds = spent + time.monotonic() - began
            journal.rows.append({"step": step + 1, **losses, "seconds": seconds})
            kept = [optimizer.state_dict() for optimizer in optimizers]
            journal.save({"networks": networks.state_dict(), "optimizers": kept})
            log.info("step %d, %.0f s: %s", step + 1, seconds, losses)
    return networks["there"].eval(), journal.rows[-1]["seconds"]


@torch.inference_mode()
def translate(translator: Translator, brain: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A brain (X, Y, Z) in [0, 1] slice by slice, 0 outside the mask."""
    stack = to_slices(brain, AXIS)
    height, width = stack.shape[-2:]
    done = torch.cat([translator(part)[..., :height, :width] for part in pad_to_multiple(stack, MULTIPLE).split(8)])
    return from_slices(done, AXIS) * mask


def _go_on(journal: Journal, networks: _Networks, optimizers: list[torch.optim.Adam]) -> tuple[int, float]:
    """Steps and seconds of an earlier run; its weights."""
    if not (state := journal.load()):
        return 0, 0.0
    networks.load_state_dict(state["networks"])
    for optimizer, kept in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(kept)
    return int(journal.rows[-1]["step"]), journal.rows[-1]["seconds"]


def _step(
    networks: _Networks, optimizers: list[torch.optim.Adam], shown: list[Tensor], setup: CycleGan, step: int
) -> dict[str, float]:
    """Translators first, then discriminators, as the paper's code has it."""
    translators, told, logged = networks.losses(*shown, setup)
    for optimizer, loss in zip(optimizers, (translators, told), strict=True):
        optimizer.param_groups[0]["lr"] = setup.rate * min(1.0, 2 * (1 - step / setup.steps))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {**logged, "told": float(told.detach())}


def _off(answer: Tensor, wanted: float) -> Tensor:
    """Least squares."""
    return (answer - wanted).square().mean()
