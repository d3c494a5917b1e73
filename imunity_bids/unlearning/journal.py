"""A training run on disk: a checkpoint that survives a kill, `log.csv`, `curves.png`."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import torch

CHECKPOINT = "last.pt"


class Journal:
    """Rows of numbers, one per evaluation. Without a folder they are only remembered."""

    def __init__(self, folder: Path | None):
        self.folder = folder
        self.rows: list[dict[str, float]] = []
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def load(self) -> dict[str, Any] | None:
        """What was saved last, with the rows until then; None in a new run."""
        if self.folder is None or not (path := self.folder / CHECKPOINT).exists():
            return None
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.rows = state.pop("rows")
        return state

    def save(self, state: dict[str, Any]) -> None:
        """Checkpoint, appearing whole or not at all; log and curves."""
        if self.folder is None:
            return
        temporary = self.folder / "last.tmp"
        torch.save({**state, "rows": self.rows}, temporary)
        temporary.replace(self.folder / CHECKPOINT)
        self._write_log()
        self._draw()

    def _write_log(self) -> None:
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        with open(self.folder / "log.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(self.rows)

    def _draw(self) -> None:
        from matplotlib.figure import Figure

        names = [name for name in dict.fromkeys(name for row in self.rows for name in row) if name != "step"]
        figure = Figure(figsize=(3.2 * len(names), 2.8), layout="constrained")
        for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
            axes.plot(*zip(*((row["step"], row[name]) for row in self.rows if name in row), strict=True))
            axes.set_title(name)
            axes.set_xlabel("step")
        figure.savefig(self.folder / "curves.png", dpi=80)
