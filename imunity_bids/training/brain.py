"""Train the brain extraction network on simulated heads."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from imunity_bids.errors import InputMissing
from imunity_bids.models.brain import FIELD, SPACING_MM, BrainNet
from imunity_bids.models.weights import save_weights
from imunity_bids.settings import as_command
from imunity_bids.simulation.heads import HeadSimulator, read_label_map
from imunity_bids.training.checkpoints import Run, autocast, weights_to_start_with
from imunity_bids.unlearning.averages import moving_average

VALIDATION_SEED = 10**9
NOT_TYPED = ("maps", "output", "shape", "widths")  # of the setup: not options
# Shares of the heads to learn from; those to validate on lean more towards T1w (defaults of `HeadSimulator`).
T1W_SHARE, INVERTED_SHARE = 0.6, 0.1


@dataclass(frozen=True)
class BrainTraining:
    """What decides the weights, and where they go."""

    maps: Path
    output: Path
    steps: int = 3800
    batch: int = 1
    rate: float = 1e-3
    holdout: int = 4
    validation_heads: int = 12
    every: int = 200
    seed: int = 1
    device: str = "cpu"
    precision: str = "float32"
    workers: int = 1
    start: Path | None = None  # weights to begin with: best.pt of a run, or a model's safetensors
    shape: tuple[int, int, int] = FIELD
    widths: tuple[int, ...] = (24, 48, 96, 128)


class _Heads(Dataset):
    """Simulated heads by number, so that a resumed run sees what the undisturbed one would have seen."""

    def __init__(self, simulator: HeadSimulator, first: int, count: int):
        self.simulator, self.first, self.count = simulator, first, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.simulator(self.first + index)


def split_maps(folder: Path, holdout: int) -> tuple[list[Path], list[Path]]:
    """Label maps to train on and, the last `holdout` by name, to hold out."""
    paths = sorted(Path(folder).glob("*.nii*"))
    if len(paths) <= holdout:
        raise InputMissing(f"{folder} holds {len(paths)} label maps; more than {holdout} are needed")
    return paths[: len(paths) - holdout], paths[len(paths) - holdout :]


def train_brain(setup: BrainTraining, watch: Callable[[int], None] | None = None) -> Path:
    """Train, or go on where a killed run stopped; returns the path of the best weights.

    `watch` is called with the number of each step, from 1, before its update.

    Raises
    ------
    InputMissing
        There are no more label maps than are held out.
    DataUnusable
        The folder holds a run of an earlier version.
    """
    from monai.losses import DiceCELoss

    torch.manual_seed(setup.seed)
    training, held_out = ([read_label_map(p) for p in part] for part in split_maps(setup.maps, setup.holdout))
    network = BrainNet(setup.widths).to(setup.device, memory_format=torch.channels_last_3d)
    if setup.start is not None:
        network.load_state_dict(weights_to_start_with(setup.start))
    optimiser = torch.optim.AdamW(network.parameters(), lr=setup.rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, setup.rate, setup.steps, pct_start=0.05)
    average = moving_average(network)
    run = Run(setup.output)
    first, best = 0, 0.0
    if state := run.load():
        network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
        schedule.load_state_dict(state["schedule"])
        average.load_state_dict(state["average"])
        first, best = state["step"], state["best"]

    loss_of = DiceCELoss(sigmoid=True)
    heads = _Heads(
        HeadSimulator(training, setup.shape, T1W_SHARE, INVERTED_SHARE),
        setup.seed * 10**7 + first * setup.batch,
        (setup.steps - first) * setup.batch,
    )
    loader = DataLoader(heads, setup.batch, num_workers=setup.workers, prefetch_factor=4 if setup.workers else None)
    validation = HeadSimulator(held_out, setup.shape)
    losses = []
    bar = tqdm(loader, initial=first, total=setup.steps, desc="brain", mininterval=5)
    for step, (image, mask) in enumerate(bar, start=first + 1):
        if watch is not None:
            watch(step)
        optimiser.zero_grad(set_to_none=True)
        with autocast(setup.device, setup.precision):
            logits = network(image.to(setup.device))
        loss = loss_of(logits.float(), mask.to(setup.device))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        schedule.step()
        average.update_parameters(network)
        losses.append(loss.item())
        if step % setup.every and step != setup.steps:
            continue
        dice = _validate(average.module, setup, validation)
        run.record(step=step, loss=float(np.mean(losses)), dice=dice)
        bar.write(f"step {step}: loss {np.mean(losses):.4f}, Dice on held-out heads {dice:.4f}")
        losses.clear()
        is_best, best = dice > best, max(dice, best)
        run.save_average(
            average,
            {
                "step": step,
                "best": best,
                "network": network.state_dict(),
                "optimiser": optimiser.state_dict(),
                "schedule": schedule.state_dict(),
            },
            best=is_best,
        )
    return setup.output / "best.pt"


def export_brain(best: Path, setup: BrainTraining) -> Path:
    """Write the weights and their card beside a run: the folder that `--brain-model` takes."""
    state = torch.load(best, map_location="cpu", weights_only=True)
    folder = setup.output / "model"
    digest = save_weights(folder / "brain.safetensors", state["weights"])
    run = Run(setup.output)
    run.load()
    training, held_out = split_maps(setup.maps, setup.holdout)
    card = {
        "name": "brain",
        "architecture": {"network": "BrainNet", "widths": list(setup.widths), "spacing_mm": SPACING_MM},
        "sha256": digest,
        "training": {
            "command": as_command(["imunity-train brain", setup.maps.name, "OUT"], setup, NOT_TYPED),
            "step": state["step"],
            "started_from": setup.start.name if setup.start else "random weights",
            "hours": round(run.seconds / 3600, 2),
            "seed": setup.seed,
            "device": setup.device,
            "torch": torch.__version__,
            "maps": [p.name for p in training],
            "held_out": [p.name for p in held_out],
            "validation_dice": max(row["dice"] for row in run.rows),
        },
    }
    (folder / "card.json").write_text(json.dumps(card, indent=2, allow_nan=False) + "\n")
    return folder


@torch.inference_mode()
def _validate(network: nn.Module, setup: BrainTraining, simulator: HeadSimulator) -> float:
    """Mean Dice on a fixed set of simulated heads."""
    scores = []
    for index in range(setup.validation_heads):
        image, mask = simulator(VALIDATION_SEED + index, head=index % len(simulator.maps))
        predicted = network(image[None].to(setup.device)).cpu()[0] > 0
        scores.append(float(2 * (predicted & (mask > 0)).sum() / (predicted.sum() + mask.sum()).clamp(min=1)))
    return float(np.mean(scores))
