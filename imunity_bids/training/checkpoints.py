"""One training run on disk: checkpoints that survive a kill, a log, curves. Shared by every trainer."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from imunity_bids.errors import DataUnusable
from imunity_bids.unlearning.journal import Journal, save_atomically

log = logging.getLogger(__name__)


class Run(Journal):
    """A journal that also keeps the training time and the best averaged weights, `best.pt`.

    The log is cut back to the checkpoint on resumption, so that it never shows steps that were lost.
    """

    def __init__(self, folder: Path):
        super().__init__(Path(folder))
        self.started = time.monotonic()
        self.seconds_before = 0.0

    @property
    def seconds(self) -> float:
        """Training time, interruptions left out."""
        return self.seconds_before + time.monotonic() - self.started

    def load(self) -> dict[str, Any] | None:
        """State of the last checkpoint, or None for a new run; on the CPU, from where every `load_state_dict` copies.

        Raises
        ------
        DataUnusable
            It was written by an earlier version of this app.
        """
        state = super().load()
        if state is None:
            return None
        if "n_averaged" not in state["average"]:
            raise DataUnusable(f"{self.folder} was written by an earlier version of this app: train in a new folder")
        self.seconds_before = state.pop("seconds")
        log.info("going on from step %d of %s", state["step"], self.folder)
        return state

    def save_average(self, average: AveragedModel, state: dict[str, Any], best: bool = False) -> None:
        """A checkpoint with the averaged weights in it; `best` keeps a copy of those."""
        self.save({**state, "average": average.state_dict(), "seconds": self.seconds})
        if best:
            weights = average.module.state_dict()
            save_atomically({"weights": weights, "step": state["step"]}, self.folder / "best.pt")

    def record(self, **values: float) -> None:
        """Add a row to the log."""
        self.rows.append(values)


def weights_to_start_with(path: Path) -> dict[str, Tensor]:
    """Weights of an earlier run (`best.pt`) or of a shipped model (`*.safetensors`)."""
    if path.suffix == ".safetensors":
        from imunity_bids.hashes import sha256
        from imunity_bids.models.weights import load_weights

        return load_weights(path, sha256(path))
    return torch.load(path, map_location="cpu", weights_only=True)["weights"]


def autocast(device: str, precision: str) -> torch.autocast:
    """Context of a forward pass. bfloat16 needs no scaling of the loss; a step takes 0.5 to 0.75 of the time where
    the processor knows it (CPUs with AVX512-BF16 or AMX, GPUs since Ampere)."""
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bfloat16")
