"""The JSON that describes a model folder: read without loading a network, so that a dry run needs no torch."""

from __future__ import annotations

import hashlib
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


def reference_hashes(folder: Path, card: dict[str, Any]) -> dict[str, str]:
    """SHA256 of the tensors of each reference of a bundle, by label: two references of one file are not the same."""
    from safetensors import safe_open

    path = folder / "references.safetensors"
    if not path.is_file():
        raise InputMissing(f"{path}: the references are missing; install the package again or name another model")
    hashes = {label: hashlib.sha256() for label in card["references"]}
    with safe_open(path, "np") as file:
        for name in sorted(file.keys()):
            label, _, tensor = name.rpartition("/")
            if label in hashes:
                hashes[label].update(tensor.encode() + file.get_tensor(name).tobytes())
    return {label: whole.hexdigest() for label, whole in hashes.items()}
