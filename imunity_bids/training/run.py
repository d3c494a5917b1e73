"""One training run on disk: checkpoints that survive a kill, a log, curves. Shared by every trainer."""

from __future__ import annotations

import csv
import logging
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)


class Run:
    """Folder of a run: `last.pt` (everything needed to go on), `best.pt`, `log.csv`, `curves.png`.

    The log is cut back to the checkpoint on resumption, so that it never shows steps that were lost.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.rows: list[dict[str, float]] = []
        self.started = time.monotonic()
        self.seconds_before = 0.0

    @property
    def seconds(self) -> float:
        """Training time, interruptions left out."""
        return self.seconds_before + time.monotonic() - self.started

    def load(self) -> dict[str, Any] | None:
        """State of the last checkpoint, or None for a new run."""
        path = self.folder / "last.pt"
        if not path.exists():
            return None
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.rows = state.pop("rows")
        self.seconds_before = state.pop("seconds")
        log.info("going on from step %d of %s", state["step"], self.folder)
        return state

    def save(self, state: dict[str, Any], best: bool = False) -> None:
        """Write the checkpoint atomically, with log and curves; `best` keeps a copy of the weights."""
        _save_atomically({**state, "rows": self.rows, "seconds": self.seconds}, self.folder / "last.pt")
        if best:
            _save_atomically({"weights": state["average"], "step": state["step"]}, self.folder / "best.pt")
        self._write_log()
        self._draw()

    def record(self, **values: float) -> None:
        """Add a row to the log."""
        self.rows.append(values)

    def _write_log(self) -> None:
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        with open(self.folder / "log.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(self.rows)

    def _draw(self) -> None:
        from matplotlib.figure import Figure

        names = [n for n in dict.fromkeys(k for row in self.rows for k in row) if n != "step"]
        figure = Figure(figsize=(4 * max(1, len(names)), 3), layout="constrained")
        for axes, name in zip(figure.subplots(1, max(1, len(names)), squeeze=False)[0], names, strict=False):
            points = [(row["step"], row[name]) for row in self.rows if name in row]
            axes.plot(*zip(*points, strict=True))
            axes.set_title(name)
            axes.set_xlabel("step")
        figure.savefig(self.folder / "curves.png", dpi=80)


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


class Average:
    """Exponential moving average of a network's weights: what is validated and shipped."""

    def __init__(self, network: nn.Module, decay: float = 0.999):
        self.decay = decay
        self.weights = {name: value.detach().clone() for name, value in network.state_dict().items()}
        self.steps = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Follow the network; the first steps count more, or the random start would linger."""
        self.steps += 1
        decay = min(self.decay, self.steps / (self.steps + 10))
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                self.weights[name].lerp_(value, 1 - decay)
            else:
                self.weights[name].copy_(value)


def keep(file: Path, network: nn.Module, **figures: Any) -> None:
    """A finished network and what was measured on it."""
    _save_atomically({"weights": network.state_dict(), **figures}, file)


def load_kept(file: Path, network: nn.Module) -> dict[str, Any]:
    """Fill the network, ready for inference, and give back its figures."""
    state = torch.load(file, weights_only=True)
    network.load_state_dict(state.pop("weights"))
    network.eval()
    return state


def _save_atomically(state: dict[str, Any], path: Path) -> None:
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    temporary.replace(path)
