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
        save_atomically({**state, "rows": self.rows}, self.folder / CHECKPOINT)
        write_log(self.folder, self.rows)
        draw_curves(self.folder, self.rows)


def save_atomically(state: dict[str, Any], path: Path) -> None:
    """The file appears whole or not at all."""
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    temporary.replace(path)


def write_log(folder: Path, rows: list[dict[str, float]]) -> None:
    """`log.csv`: a line for each row, a column for each name that occurs."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with open(folder / "log.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


def draw_curves(folder: Path, rows: list[dict[str, float]]) -> None:
    """`curves.png`: each number over the steps."""
    from matplotlib.figure import Figure

    names = [name for name in dict.fromkeys(name for row in rows for name in row) if name != "step"]
    figure = Figure(figsize=(3.2 * max(1, len(names)), 2.8), layout="constrained")
    for axes, name in zip(figure.subplots(1, max(1, len(names)), squeeze=False)[0], names, strict=False):
        axes.plot(*zip(*((row["step"], row[name]) for row in rows if name in row), strict=True))
        axes.set_title(name)
        axes.set_xlabel("step")
    figure.savefig(folder / "curves.png", dpi=80)
