"""The JSON that describes a model folder: read without loading a network, so that a dry run needs no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from imunity_bids.errors import DataUnusable, InputMissing

AXES = ("sagittal", "coronal", "axial")
DEFAULT = "default"  # name of the reference that a bundle uses where none is asked for
SHIPPED = Path(__file__).parents[1] / "data"
BRAIN_NETWORK = SHIPPED / "brain"


def read_card(path: Path) -> dict[str, Any]:
    """The JSON beside the weights."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise InputMissing(f"{path}: not a model folder (no card)") from error
    except json.JSONDecodeError as error:
        raise DataUnusable(f"{path} is not valid JSON: {error}") from error


def find_bundle(name: str) -> Path:
    """Folder of a shipped bundle by name, or a folder.

    Raises
    ------
    InputMissing
        Neither.
    """
    for folder in (SHIPPED / name, Path(name)):
        if (folder / "bundle.json").is_file():
            return folder
    shipped = sorted(path.parent.name for path in SHIPPED.glob("*/bundle.json"))
    raise InputMissing(f"--model {name}: no such bundle or folder; shipped: {', '.join(shipped)}")
