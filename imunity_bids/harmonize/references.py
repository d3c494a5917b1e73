"""References made from images: their contrast codes, averaged, and what they need to be named and cached."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from imunity_bids.harmonize.inference import contrast_codes, intensity_quantiles
from imunity_bids.harmonize.noise import white_noise
from imunity_bids.harmonize.smoothness import smoothness
from imunity_bids.models.bundle import Bundle, Reference
from imunity_bids.models.card import AXES

REFERENCE_SLICES = 9  # as many as the participant level takes


def make_reference(
    label: str, kind: str, sha256: str, brains: Iterable[tuple[np.ndarray, np.ndarray]], bundle: Bundle, slices: int
) -> Reference:
    """Mean code, quantiles, noise and smoothness of white-striped brains and masks; a code is the mean of `slices`."""
    brains = list(brains)
    codes = [contrast_codes(volume * mask, bundle, slices) for volume, mask in brains]
    quantiles = torch.stack([intensity_quantiles(volume, mask) for volume, mask in brains]).mean(dim=0)
    mean = {axis: torch.stack([code[axis] for code in codes]).mean(dim=0) for axis in AXES}
    noise = float(np.mean([white_noise(volume, mask) for volume, mask in brains]))
    fwhm = float(np.mean([smoothness(volume, mask) for volume, mask in brains]))
    return Reference(label, kind, sha256, mean, quantiles, noise, fwhm, len(brains))


def reference_of(brains: list[np.ndarray], bundle: Bundle) -> Reference:
    """Scans of other persons as the reference; brains are 0 outside their masks."""
    return make_reference("travelers", "file", "", [(brain, brain > 0) for brain in brains], bundle, REFERENCE_SLICES)


def save_reference(reference: Reference, path: Path) -> None:
    """As safetensors; label, kind and hash in its metadata."""
    tensors = {axis: code.contiguous() for axis, code in reference.codes.items()}
    tensors |= {"quantiles": reference.quantiles}
    tensors |= {name: torch.tensor([getattr(reference, name)]) for name in ("noise", "fwhm", "brains")}
    save_file(tensors, path, {"label": reference.label, "kind": reference.kind, "sha256": reference.sha256})


def load_reference(path: Path) -> Reference:
    """Inverse of `save_reference`."""
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        known = {name: tensors.pop(name) for name in ("quantiles", "noise", "fwhm", "brains")}
        return Reference(
            codes=tensors,
            quantiles=known["quantiles"],
            noise=float(known["noise"]),
            fwhm=float(known["fwhm"]),
            brains=int(known["brains"]),
            **file.metadata(),
        )
