"""What decides the voxels of an image: the hash that says whether it is done, and what steps depend on.

Whatever changes a voxel must be in here; `tests/plan/test_parameters.py` changes each part in turn.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from imunity_bids import version
from imunity_bids.bids.scan import T1w
from imunity_bids.hashes import digest, sha256
from imunity_bids.image.template import Template
from imunity_bids.models.card import BRAIN_NETWORK, read_card
from imunity_bids.plan.requests import ReferenceRequest, mask_hashes
from imunity_bids.settings import Settings


def preprocessing(settings: Settings, template: Template) -> dict[str, Any]:
    """The part that decides the white-striped brain."""
    names = ("denoise", "skull_strip", "brain_border", "registration", "template", "bias_correction", "random_seed")
    chosen = {name: getattr(settings, name) for name in names}
    return chosen | {
        "version": version(),
        "brain_weights": _brain_weights(settings),
        "template_sha256": template.sha256,
    }


def model(card: dict[str, Any]) -> dict[str, Any]:
    """What of a bundle decides its output: the weights and the architecture."""
    return {"weights": card["sha256"], "architecture": card["architecture"]}


def parameters(
    settings: Settings,
    preprocessing: dict[str, Any],
    card: dict[str, Any],
    image: T1w,
    image_sha256: str,
    reference: ReferenceRequest,
    spaces: dict[str, str],
) -> dict[str, Any]:
    """All that decides a harmonized image, but the precision that the models ran in.

    `spaces` are those that are written besides the models', with hashes of their templates.
    """
    return {
        "image": image_sha256,
        "masks": mask_hashes(image),
        "preprocessing": preprocessing,
        "model": model(card),
        "reference": {"label": reference.label, "kind": reference.kind, "sha256": reference.sha256},
        "reference_masks": reference.masks,
        "slices": settings.reference_slices,
        "noise": settings.noise,
        "target_fwhm": settings.target_fwhm,
        "spaces": spaces,
        "bias_field": settings.save_bias_field,
    }


def parameters_hash(parameters: dict[str, Any], precision: str) -> str:
    """Hash of the parameters and of the precision that ran."""
    return digest({**parameters, "precision": precision})


def precision_serves(settings: Settings, ran: str, fallbacks: list[str]) -> bool:
    """True where an image that was made in precision `ran` need not be made again.

    Half precision is for GPUs: on a CPU float32 runs, whatever is asked. A run that had to leave the GPU would have to
    do so again.
    """
    if ran == settings.precision:
        return True
    if ran == "float32":
        return not settings.device.startswith("cuda") or bool(fallbacks)
    return bool(fallbacks) and set(ran.split("+")) == {settings.precision, "float32"}


def _brain_weights(settings: Settings) -> str:
    """Hash of the network that cuts out the brain; empty where there is none."""
    if settings.skull_strip == "synthstrip":
        weights = Path(settings.synthstrip_model or "")
        return sha256(weights) if weights.is_file() else ""
    if settings.skull_strip in ("auto", "network"):
        return read_card((settings.brain_model or BRAIN_NETWORK) / "card.json").get("sha256", "")
    return ""
