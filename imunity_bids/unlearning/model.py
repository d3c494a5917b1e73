"""A model on disk: `encoder.safetensors`, `head.safetensors` and `card.json` with their hashes. No pickle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from imunity_bids.bids.outputs import write_json
from imunity_bids.errors import DataUnusable
from imunity_bids.models.card import read_card
from imunity_bids.models.weights import load_module, save_weights
from imunity_bids.unlearning.networks import TissueHead, UNet, VggEncoder
from imunity_bids.unlearning.tasks import Task

CARD = "card.json"


@dataclass(frozen=True)
class Architecture:
    """What the networks are like."""

    width: int = 8
    depth: int = 4  # halvings
    features: int = 8  # of the volumes' encoder: few have fewer places to hide a site in
    spacing_mm: float = 3.0  # of the volumes that they see


def build(task: Task, architecture: Architecture) -> tuple[nn.Module, nn.Module]:
    """Encoder and head of the main task, with random weights."""
    if task.kind == "segmentation":
        return UNet(architecture.width, architecture.depth), TissueHead(architecture.width, task.outputs)
    encoder = VggEncoder(architecture.width, architecture.depth, architecture.features)
    return encoder, nn.Linear(architecture.features, task.outputs)


@dataclass(frozen=True)
class Model:
    """A trained network for a task."""

    card: dict[str, Any]
    task: Task
    architecture: Architecture
    encoder: nn.Module
    head: nn.Module

    @torch.inference_mode()
    def __call__(self, inputs: Tensor) -> Tensor:
        """Outputs for inputs (n, 1, …), float32."""
        return self.head(self.encoder(inputs.float()))


def save_model(
    folder: Path, task: Task, architecture: Architecture, encoder: nn.Module, head: nn.Module, card: dict[str, Any]
) -> Path:
    """Write weights and card; the card gets task, architecture and hashes."""
    parts = {"encoder": encoder, "head": head}
    hashes = {n: save_weights(folder / f"{n}.safetensors", m.state_dict(), half=False) for n, m in parts.items()}
    content = {**card, "task": task.to_dict(), "architecture": vars(architecture), "sha256": hashes}
    write_json(folder / CARD, content)
    return folder


def load_model(folder: Path, device: str = "cpu") -> Model:
    """Read a model, ready for inference; its files must have the hashes of its card.

    Raises
    ------
    InputMissing
        It is no model folder, or a file of it is missing.
    DataUnusable
        A file was changed, or the card is another one's.
    """
    card = read_card(folder / CARD)
    try:
        task = Task(**{**card["task"], "classes": tuple(card["task"]["classes"])})
        architecture = Architecture(**card["architecture"])
        hashes = card["sha256"]
        networks = zip(("encoder", "head"), build(task, architecture), strict=True)
        encoder, head = (load_module(m, folder / f"{n}.safetensors", hashes[n]).to(device) for n, m in networks)
    except (KeyError, TypeError) as error:
        raise DataUnusable(f"{folder}/{CARD} is not the card of an unlearned model: {error}") from error
    return Model(card, task, architecture, encoder, head)
