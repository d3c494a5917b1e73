"""What decides the voxels of an image: the hash that says whether it is done."""

from __future__ import annotations

from typing import Any

from imunity_bids.models.card import BRAIN_NETWORK, read_card
from imunity_bids.settings import Settings


def preprocessing(settings: Settings) -> dict[str, Any]:
    """The part that decides the white-striped brain."""
    names = ("skull_strip", "brain_border", "registration", "template", "random_seed")
    chosen = {name: getattr(settings, name) for name in names}
    return chosen | {
        "brain_weights": _brain_weights(settings),
        "synthstrip_model": str(settings.synthstrip_model or ""),
    }


def _brain_weights(settings: Settings) -> str:
    """Hash of the network that cuts out the brain, by its card; empty where none is asked."""
    if settings.skull_strip not in ("auto", "network"):
        return ""
    return read_card((settings.brain_model or BRAIN_NETWORK) / "card.json").get("sha256", "")
