"""A bundle on disk: three generators, one per axis, the references they know, hashes and a card.

    FOLDER/bundle.json  sagittal.safetensors  coronal.safetensors  axial.safetensors  references.safetensors

A reference is a contrast code per axis and the quantiles of the intensities it stands for.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from imunity_bids.errors import DataUnusable
from imunity_bids.models.card import AXES, read_card, reference_hashes
from imunity_bids.models.imunity import Architecture, Generator
from imunity_bids.models.paper import PaperArchitecture, PaperGenerator
from imunity_bids.models.weights import load_module, load_weights, save_weights

AnyGenerator = Generator | PaperGenerator
KINDS = {"curves": (Architecture, Generator), "paper": (PaperArchitecture, PaperGenerator)}  # of generators


@dataclass(frozen=True)
class Reference:
    """A contrast to harmonize to."""

    label: str
    kind: str  # bundle, file, participant, site
    sha256: str  # of the image or images, or of the reference's tensors in the bundle
    codes: dict[str, Tensor]  # per axis: (1, C), of the paper's generators (1, C, 1, 1)
    quantiles: Tensor  # of the intensities inside the brain at 0, 1, …, 100 %
    noise: float = math.nan  # standard deviation in white matter; NaN: not known
    fwhm: float = math.nan  # smoothness of its images in mm, mean of the axes; NaN: not known, as in a bundle
    brains: int = 1  # that it is the mean of


@dataclass(frozen=True)
class Bundle:
    """Everything that harmonization needs, loaded and checked."""

    card: dict[str, Any]
    generators: dict[str, AnyGenerator]
    references: dict[str, Reference]

    @property
    def name(self) -> str:
        """Name and version, for reports and sidecars."""
        return f"{self.card['name']} {self.card['version']}"


@lru_cache(maxsize=2)
def load_bundle(folder: Path, device: str = "cpu") -> Bundle:
    """Read a bundle once per process; every file must have the hash that `bundle.json` names."""
    card = read_card(folder / "bundle.json")
    try:
        hashes = card["sha256"]
        generators = {
            axis: load_module(new_generator(card["architecture"]), folder / f"{axis}.safetensors", hashes[axis]).to(
                device, memory_format=torch.channels_last
            )
            for axis in AXES
        }
        stored = load_weights(folder / "references.safetensors", hashes["references"])
    except (KeyError, TypeError) as error:
        raise DataUnusable(
            f"{folder}/bundle.json is not the card of a bundle that this version can read: {error}"
        ) from error
    own = reference_hashes(folder, card)
    references = {
        label: Reference(
            label=label,
            kind="bundle",
            sha256=own[label],
            codes={axis: stored[f"{label}/{axis}"] for axis in AXES},
            quantiles=stored[f"{label}/quantiles"],
            noise=float(stored[f"{label}/noise"]),
            brains=int(stored[f"{label}/brains"]),
        )
        for label in card["references"]
    }
    return Bundle(card, generators, references)


def new_generator(described: dict[str, Any]) -> AnyGenerator:
    """An untrained generator as a card describes it: its `kind`, and the fields of that kind's architecture.

    Raises
    ------
    KeyError, TypeError
        A kind or a field is not known: the bundle is of another version.
    """
    fields = dict(described)
    architecture, generator = KINDS[fields.pop("kind")]
    return generator(architecture(**fields))


def describe_generator(generator: AnyGenerator) -> dict[str, Any]:
    """Inverse of `new_generator`, for the card."""
    kind = next(name for name, (_, network) in KINDS.items() if isinstance(generator, network))
    return {"kind": kind, **generator.architecture.to_dict()}


def save_bundle(folder: Path, bundle: Bundle) -> None:
    """Write a bundle; the hashes go into its card."""
    generators, references = bundle.generators, bundle.references
    hashes = {axis: save_weights(folder / f"{axis}.safetensors", generators[axis].state_dict()) for axis in AXES}
    tensors = {f"{label}/{axis}": r.codes[axis] for label, r in references.items() for axis in AXES}
    tensors |= {f"{label}/quantiles": r.quantiles for label, r in references.items()}
    tensors |= {f"{label}/noise": torch.tensor([r.noise]) for label, r in references.items()}
    tensors |= {f"{label}/brains": torch.tensor([r.brains]) for label, r in references.items()}
    hashes["references"] = save_weights(folder / "references.safetensors", tensors, half=False)
    architecture = describe_generator(generators[AXES[0]])
    full = {**bundle.card, "architecture": architecture, "references": sorted(references), "sha256": hashes}
    (folder / "bundle.json").write_text(json.dumps(full, indent=2, allow_nan=False) + "\n")
