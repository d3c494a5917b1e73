"""Pictures of `imunity-evaluate diagnosis`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd


def plot_diagnosis(table: pd.DataFrame, path: Path) -> Path:
    """Dots with 95 % intervals, a row of panels for each data and target: score, and site; a colour per scheme."""
    from matplotlib.figure import Figure

    asked = list(table.groupby(["data", "target"], sort=False))
    figure = Figure(figsize=(10, 3.2 * len(asked)), layout="constrained")
    panels = figure.subplots(len(asked), 2, squeeze=False)
    for (left, right), ((data, target), part) in zip(panels, asked, strict=True):
        _dots(left, part, "value", f"{data}, {target}: {part.score.iloc[0]}")
        left.axvline(part.shuffled.median(), color="0.6", linewidth=1, linestyle=":")
        if "site" not in part or part.site.isna().all():
            right.set_axis_off()
            continue
        _dots(right, part.dropna(subset=["site"]), "site", "site told (balanced accuracy)")
        right.axvline(part["site chance"].median(), color="0.6", linewidth=1, linestyle=":")
    figure.savefig(path, dpi=90)
    return path


def plot_combinations(summary: pd.DataFrame, first: str, path: Path) -> Path:
    """The paper's figure 5: AUC over the number of sites, of the best combination and mean ± standard deviation.

    No combination is the best of `first`, over which the others gain.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 6), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True)
    for number, (method, part) in enumerate(summary.groupby("method", sort=False)):
        places = part.sites + 0.05 * number
        colour = f"C{number}"
        if method != first:
            top.plot(places, part.best, "o-", color=colour, markersize=3)
        bottom.errorbar(places, part.auc, yerr=part.sd, fmt="o-", color=colour, markersize=3, capsize=2, label=method)
    top.set_title(f"combination that gains most over {first} (chosen by its result)", fontsize=9)
    bottom.set_title("all combinations: mean and standard deviation", fontsize=9)
    bottom.set_xlabel("sites")
    bottom.set_xticks(sorted(set(summary.sites)))
    for axes in (top, bottom):
        axes.set_ylabel("AUC")
        axes.axhline(0.5, color="0.6", linewidth=1, linestyle=":")
    figure.legend(loc="outside right center", fontsize=8, frameon=False)
    figure.savefig(path, dpi=90)
    return path


def _dots(axes: object, part: pd.DataFrame, column: str, title: str) -> None:
    methods = list(dict.fromkeys(part.method))
    schemes = list(part.groupby("scheme", sort=False))
    for number, (scheme, rows) in enumerate(schemes):
        places = np.array([methods.index(method) for method in rows.method]) + 0.2 * (number - (len(schemes) - 1) / 2)
        ends = rows[f"{column} interval"].str.split(" to ", expand=True).astype(float).to_numpy()
        values = rows[column].to_numpy(float)
        spread = np.clip(np.stack([values - ends[:, 0], ends[:, 1] - values]), 0, None)
        axes.errorbar(values, places, xerr=spread, fmt="o", markersize=4, capsize=2, label=scheme)
    axes.set_yticks(range(len(methods)), methods)
    axes.invert_yaxis()
    axes.set_title(title, fontsize=9)
    axes.legend(fontsize=7)
