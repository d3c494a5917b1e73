"""The two pictures of the group page: contrast per site, and images in the space of their features; SVG strips."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from imunity_bids.metrics.tissue_classes import TISSUES
from imunity_bids.metrics.tissue_ratios import RATIOS
from imunity_bids.qc.features import AFTER, BEFORE, MATCHED
from imunity_bids.reports.figures import encode
from imunity_bids.reports.sentences import RATIO_NAMES, digits

PLACES = {BEFORE: 0.0, MATCHED: 1.0, AFTER: 2.0}
MANY = 12  # sites, from which on single persons and a legend would hide the picture
WIDTH, LEFT, ROW, HALF = 640, 150, 15, 4.5  # of a strip, in pixels: picture, names, a site's row, spread of its points


def colours(sites: list[str]) -> dict[str, str]:
    """A colour per site; with more than twenty they come again."""
    palette = matplotlib.colormaps["tab10" if len(sites) <= 10 else "tab20"].colors
    return {site: matplotlib.colors.to_hex(palette[number % len(palette)]) for number, site in enumerate(sites)}


def contrast_picture(features: pd.DataFrame, colour: dict[str, str]) -> str:
    """Both ratios: a large dot per site, small ones for persons, before, after matching, and after; a data URI."""
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    table = features[features.method.isin(PLACES)]
    for panel, ratio in zip(figure.subplots(1, len(RATIOS)), RATIOS, strict=True):
        persons = table.groupby(["site", "person", "method"])[ratio].mean().unstack("method")
        for number, (site, part) in enumerate(persons.groupby(level="site")):
            _one_site(panel, part.droplevel("site"), str(site), colour, (number + 0.5) / len(colour) - 0.5)
        panel.set_title(RATIO_NAMES[ratio], loc="left")
        panel.set_xticks(list(PLACES.values()), [BEFORE, "plain histogram\nmatching", AFTER])
        panel.spines[["top", "right"]].set_visible(False)
    if len(colour) <= MANY:
        figure.legend(*panel.get_legend_handles_labels(), loc="outside right center", frameon=False)
    return encode(figure, "svg")


def _one_site(panel: Axes, part: pd.DataFrame, site: str, colour: dict[str, str], shift: float) -> None:
    """Dots of one site, moved sideways by part of the distance between two methods."""
    methods = [name for name in PLACES if name in part]
    x = np.array([PLACES[name] for name in methods]) + 0.35 * shift
    panel.plot(x, part[methods].mean(), "-o", ms=8, lw=1, color=colour[site], label=site, zorder=3)
    if len(colour) <= MANY:
        spread = np.repeat(x, len(part)) + 0.03
        panel.plot(spread, part[methods].to_numpy().T.ravel(), ".", ms=4, alpha=0.45, color=colour[site])


def feature_picture(features: pd.DataFrame, colour: dict[str, str]) -> str:
    """Images in the first two principal components of all their features, before and after, on the same axes; empty
    with fewer than three images.

    Features are standardised over both, the components are those of both together.
    """
    shown = features[features.method.isin((BEFORE, AFTER))]
    names = [n for n in shown.columns if n not in ("site", "person", "image", "method", *RATIOS, *TISSUES)]
    shown = shown.dropna(subset=names)
    if len(shown) < 2 * 3:
        return ""
    values = shown[names].to_numpy()
    values = (values - values.mean(axis=0)) / np.maximum(values.std(axis=0), 1e-9)
    _, strength, components = np.linalg.svd(values, full_matrices=False)
    places, share = values @ components[:2].T, strength**2 / (strength**2).sum()
    figure = Figure(figsize=(11, 4), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for panel, method in zip(panels, (BEFORE, AFTER), strict=True):
        for site, tint in colour.items():
            at = places[((shown.method == method) & (shown.site == site)).to_numpy()]
            panel.plot(*at.T, "o", ms=5, alpha=0.75, color=tint, label=site)
        panel.set_title(method, loc="left")
        panel.set_xlabel(f"component 1 ({share[0]:.0%} of the variance)")
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel(f"component 2 ({share[1]:.0%})")
    if len(colour) <= MANY:
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
    return encode(figure, "svg")


@dataclass(frozen=True)
class Strip:
    """One measure: a dot per image, a row per site. Positions in pixels."""

    name: str
    text: str
    height: float
    rows: list[dict[str, Any]]  # of sites: name, y, colour, median (x; None where no image has the measure)
    points: list[dict[str, Any]]  # x, y, colour, title, href
    ticks: list[tuple[float, str]]  # x and text
    missing: int


def strip(
    name: str, text: str, values: pd.Series, images: pd.DataFrame, colour: dict[str, str], span: pd.Series | None = None
) -> Strip | None:
    """Dots of one measure; None where no image has it.

    `images` has `site`, `label`, `href`, and the index of `values`; the axis reaches from the least to the most of
    `span` (default: of `values`).
    """
    known = values[np.isfinite(values)]
    if known.empty:
        return None
    reach = known if span is None else span[np.isfinite(span)]
    low, high = float(reach.min()), float(reach.max())
    length = (high - low) or 1.0

    def across(value: float) -> float:
        return LEFT + 8 + (WIDTH - LEFT - 16) * (value - low if high > low else 0.5) / length

    jitter = np.random.default_rng(0).uniform(-HALF, HALF, len(images))  # so that equal values do not hide each other
    rows, points = [], []
    for number, (site, tint) in enumerate(colour.items()):
        y = ROW * (number + 0.5)
        own = known[images.site[known.index] == site]
        median = across(float(own.median())) if len(own) else None
        rows.append({"site": site, "y": y, "colour": tint, "median": median})
        for index, value in own.items():
            place = images.index.get_loc(index)
            title = f"{images.label[index]} ({site}): {digits(value)}"
            point = {"x": across(value), "y": y + jitter[place], "colour": tint, "title": title}
            points.append(point | {"href": images.href[index]})
    ticks = [(across(value), digits(value)) for value in ([low, (low + high) / 2, high] if high > low else [low])]
    return Strip(name, text, ROW * len(colour) + 18, rows, points, ticks, int(len(values) - len(known)))
