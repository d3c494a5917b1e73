"""Weights on disk: safetensors and a JSON card with their hash. Nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from imunity_bids.errors import DataUnusable, InputMissing


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_weights(path: Path, tensors: dict[str, Tensor], half: bool = True) -> str:
    """Write tensors, in half precision where they are floats; returns the file's SHA256."""
    from safetensors.torch import save_file

    stored = {
        name: (value.half() if half and value.is_floating_point() else value).cpu().contiguous().clone()
        for name, value in tensors.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(stored, path)
    path.chmod(0o644)  # safetensors makes it private; an image is run by any user
    return sha256(path)


def load_weights(path: Path, expected_sha256: str) -> dict[str, Tensor]:
    """Tensors in float32.

    Raises
    ------
    InputMissing
        No such file.
    DataUnusable
        The file is not the one that the card describes.
    """
    from safetensors.torch import load_file

    if not path.is_file():
        raise InputMissing(f"{path}: the weights are missing; install the package again or name another model")
    if (found := sha256(path)) != expected_sha256:
        raise DataUnusable(
            f"{path} is damaged or was changed: SHA256 {found[:12]}…, its card says {expected_sha256[:12]}…; "
            "install the package again"
        )
    return {name: value.float() if value.is_floating_point() else value for name, value in load_file(path).items()}


def read_card(path: Path) -> dict[str, Any]:
    """The JSON beside the weights."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise InputMissing(f"{path}: not a model folder (no card)") from error
    except json.JSONDecodeError as error:
        raise DataUnusable(f"{path} is not valid JSON: {error}") from error


def load_module(module: torch.nn.Module, path: Path, expected_sha256: str) -> torch.nn.Module:
    """`module` with the weights of `path`, in evaluation mode."""
    module.load_state_dict(load_weights(path, expected_sha256))
    return module.eval().requires_grad_(False)
