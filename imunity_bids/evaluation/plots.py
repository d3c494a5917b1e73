"""Pictures of an evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from imunity_bids.evaluation.travelers import OURS, TRUTH


def plot_references(ranked: pd.DataFrame, folder: Path, most: int = 20) -> Path:
    """Draw references.png: the best candidates' scores and ranges of ranks, and all contrasts with the best marked."""
    figure = Figure(figsize=(14, 6), layout="constrained")
    left, right = figure.subplots(1, 2)
    best = ranked.head(most)[::-1]
    names = [f"{row.reference.rpartition('/')[2]} ({row.site})" for row in best.itertuples()]
    colours = ["tab:orange" if kind == "site" else "tab:blue" for kind in best.kind]
    left.barh(names, best.score, color=colours)
    for place, row in enumerate(best.itertuples()):
        left.text(row.score, place, f" {row.best_rank} to {row.worst_rank}", va="center", fontsize=8)
    left.margins(x=0.15)
    left.set_xlabel("score (less is better); beside it the ranks with one person left out; orange: a site's mean")
    for site, part in ranked[ranked.kind == "scan"].groupby("site"):
        right.scatter(part.gray_white, part.csf_white, label=site, s=25)
    means = ranked[ranked.kind == "site"]
    right.scatter(means.gray_white, means.csf_white, marker="x", color="black", s=60, label="a site's mean")
    right.scatter(
        ranked.gray_white[:1], ranked.csf_white[:1], s=250, facecolors="none", edgecolors="black", label="best"
    )
    right.set_xlabel("gray matter relative to white")
    right.set_ylabel("CSF relative to white")
    right.legend(frameon=False)
    path = folder / "references.png"
    figure.savefig(path, dpi=100)
    return path


def plot_travelers(folder: Path) -> Path:
    """Draw travelers.png out of a folder's travelers.tsv: SSIM per method, and the gain over raw per direction."""
    table = pd.read_csv(folder / "travelers.tsv", sep="\t")
    travels = table[(table.source != table.target) & (table.method != TRUTH)]
    figure = Figure(figsize=(14, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    order = travels.groupby("method").ssim.mean().sort_values().index
    left.boxplot([travels[travels.method == m].ssim for m in order], orientation="horizontal", tick_labels=order)
    left.set_xlabel("3D SSIM with the truth, inside the brain")
    means = travels.groupby(["method", "source", "target"]).ssim.mean()
    gain = (means[OURS] - means["raw"]).unstack()
    limit = np.nanmax(np.abs(gain.to_numpy()))
    shown = right.imshow(gain, cmap="RdBu", vmin=-limit, vmax=limit)
    right.set_xticks(range(len(gain.columns)), gain.columns, rotation=30, ha="right")
    right.set_yticks(range(len(gain.index)), gain.index)
    right.set_xlabel("to")
    right.set_ylabel("from")
    right.set_title("SSIM gained over raw")
    for (row, column), value in np.ndenumerate(gain.to_numpy()):
        if np.isfinite(value):
            right.text(column, row, f"{value:+.3f}", ha="center", va="center", fontsize=8)
    figure.colorbar(shown, ax=right)
    path = folder / "travelers.png"
    figure.savefig(path, dpi=100)
    return path


def plot_pairs(folder: Path) -> Path:
    """Draw pairs.png out of a folder's pairs.tsv and table2.json: SSIM with the same person's scan on another scanner.

    A panel per scanner and a line per person; visits are averaged.
    """
    table = pd.read_csv(folder / "pairs.tsv", sep="\t")
    target = json.loads((folder / "table2.json").read_text(encoding="utf-8"))["target"]
    ways = sorted(table.groupby("source"), key=lambda way: way[0] == target)
    figure = Figure(figsize=(1 + 2.8 * len(ways), 4.2), layout="constrained")
    for axes, (source, part) in zip(figure.subplots(1, len(ways), sharey=True, squeeze=False)[0], ways, strict=True):
        persons = part.pivot_table(index="method", columns="person", values="ssim", sort=False)
        axes.plot(persons.index, persons, "o-", color="0.75", markersize=3)
        axes.plot(persons.index, persons.mean(axis=1), "o-", color="tab:blue", label="mean")
        axes.set_title(f"{source} → {target}" if source != target else f"{target}, another visit", fontsize=9)
        axes.tick_params(axis="x", rotation=60)
    axes.legend(frameon=False)
    figure.axes[0].set_ylabel("SSIM, a line per person")
    path = folder / "pairs.png"
    figure.savefig(path, dpi=90)
    return path
