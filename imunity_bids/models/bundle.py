"""A bundle on disk: three generators, one per axis, the references they know, hashes and a card.

    FOLDER/bundle.json  sagittal.safetensors  coronal.safetensors  axial.safetensors  references.safetensors
           histogram.safetensors  error.safetensors (the two other networks, where there are any)

A reference is a contrast code per axis and the quantiles of the intensities it stands for (to judge the outcome).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from imunity_bids.errors import DataUnusable
from imunity_bids.models.card import AXES, read_card, reference_hashes
from imunity_bids.models.histogram import HistogramNet
from imunity_bids.models.imunity import Architecture, Generator
from imunity_bids.models.uncertainty import ErrorNet
from imunity_bids.models.weights import load_module, load_weights, save_weights

OTHERS = {"histogram": HistogramNet, "error": ErrorNet}  # networks that a bundle may have


@dataclass(frozen=True)
class Reference:
    """A contrast to harmonize to."""

    label: str
    kind: str  # bundle, file, participant, site
    sha256: str  # of the image or images, or of the reference's tensors in the bundle
    codes: dict[str, Tensor]  # (1, C, 1, 1) per axis
    quantiles: Tensor  # of the intensities inside the brain at 0, 1, …, 100 %


@dataclass(frozen=True)
class Bundle:
    """Everything that harmonization needs, loaded and checked."""

    card: dict[str, Any]
    generators: dict[str, Generator]
    references: dict[str, Reference]
    histogram: HistogramNet | None = None  # without it, plain histogram matching comes before the generators
    error: ErrorNet | None = None  # without it, uncertainty is the spread and what the histogram network expects

    @property
    def name(self) -> str:
        """Name and version, for reports and sidecars."""
        return f"{self.card['name']} {self.card['version']}"


@lru_cache(maxsize=2)
def load_bundle(folder: Path, device: str = "cpu") -> Bundle:
    """Read a bundle once per process; every file must have the hash that `bundle.json` names."""
    card = read_card(folder / "bundle.json")
    try:
        architecture = Architecture.from_dict(card["architecture"])
        hashes = card["sha256"]
        generators = {
            axis: load_module(Generator(architecture), folder / f"{axis}.safetensors", hashes[axis]).to(
                device, memory_format=torch.channels_last
            )
            for axis in AXES
        }
        stored = load_weights(folder / "references.safetensors", hashes["references"])
        others = {
            name: load_module(network(), folder / f"{name}.safetensors", hashes[name])
            for name, network in OTHERS.items()
            if name in hashes
        }
    except (KeyError, TypeError) as error:
        raise DataUnusable(f"{folder}/bundle.json is not a bundle's card: {error}") from error
    own = reference_hashes(folder, card)
    references = {
        label: Reference(
            label=label,
            kind="bundle",
            sha256=own[label],
            codes={axis: stored[f"{label}/{axis}"] for axis in AXES},
            quantiles=stored[f"{label}/quantiles"],
        )
        for label in card["references"]
    }
    return Bundle(card, generators, references, **others)


def save_bundle(folder: Path, bundle: Bundle) -> None:
    """Write a bundle; the hashes go into its card."""
    generators, references = bundle.generators, bundle.references
    hashes = {axis: save_weights(folder / f"{axis}.safetensors", generators[axis].state_dict()) for axis in AXES}
    tensors = {f"{label}/{axis}": r.codes[axis] for label, r in references.items() for axis in AXES}
    tensors |= {f"{label}/quantiles": r.quantiles for label, r in references.items()}
    hashes["references"] = save_weights(folder / "references.safetensors", tensors, half=False)
    for name in OTHERS:
        if (network := getattr(bundle, name)) is not None:
            hashes[name] = save_weights(folder / f"{name}.safetensors", network.state_dict(), half=False)
    architecture = generators[AXES[0]].architecture.to_dict()
    full = {**bundle.card, "architecture": architecture, "references": sorted(references), "sha256": hashes}
    (folder / "bundle.json").write_text(json.dumps(full, indent=2, allow_nan=False) + "\n")
