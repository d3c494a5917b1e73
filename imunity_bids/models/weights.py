"""Weights on disk: safetensors whose hash stands in a card. Nothing is ever unpickled."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from imunity_bids.errors import DataUnusable, InputMissing
from imunity_bids.hashes import sha256


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
    if (actual := sha256(path)) != expected_sha256:
        raise DataUnusable(
            f"{path} is damaged or was changed: SHA256 {actual[:12]}…, its card says {expected_sha256[:12]}…; "
            "install the package again"
        )
    return {name: value.float() if value.is_floating_point() else value for name, value in load_file(path).items()}


def load_module(module: torch.nn.Module, path: Path, expected_sha256: str) -> torch.nn.Module:
    """`module` with the weights of `path`, in evaluation mode.

    Raises
    ------
    InputMissing, DataUnusable
        As `load_weights`; or the weights are those of another version's networks.
    """
    try:
        module.load_state_dict(load_weights(path, expected_sha256))
    except RuntimeError as error:
        raise DataUnusable(f"{path}: the weights of another version of ImUnity-BIDS ({error})") from error
    return module.eval().requires_grad_(False)
