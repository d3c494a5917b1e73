"""Pictures for the reports: mosaics of slices and histograms, as data URIs. Volumes are RAS arrays."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

_DPI = 80


def mosaic(
    volume: np.ndarray,
    box: tuple[slice, ...],
    zooms: Sequence[float],
    contour: np.ndarray | None = None,
    limits: tuple[float, float] | None = None,
    cmap: str = "gray",
    columns: int = 6,
    bar: str | None = None,
) -> str:
    """Three rows of slices (sagittal, coronal, axial) evenly spread over `box`, the mask's outline on top.

    Parameters
    ----------
    bar
        Label of a colour bar, where the values mean something.
    """
    low, high = limits or (0.0, float(np.percentile(volume[box], 99.8)) or 1.0)
    shape = [s.stop - s.start for s in box]
    extent = [n * z for n, z in zip(shape, zooms, strict=True)]
    # axial and sagittal rows have different heights in mm: keep the proportions, or brains look squashed
    heights = [extent[2], extent[2], extent[1]]
    figure = Figure(figsize=(11, 11 * sum(heights) / (columns * max(extent)) * 1.02), facecolor="black")
    colours = matplotlib.colormaps[cmap].with_extremes(bad="black")
    axes = figure.subplots(3, columns, gridspec_kw={"height_ratios": heights, "wspace": 0.02, "hspace": 0.02})
    for axis, row in enumerate(axes):
        start, stop = box[axis].start, box[axis].stop
        positions = np.linspace(start + 0.12 * (stop - start), stop - 0.12 * (stop - start), columns).astype(int)
        rest = [a for a in range(3) if a != axis]
        plane = tuple(box[a] for a in rest)
        ratio = zooms[rest[1]] / zooms[rest[0]]
        for position, panel in zip(positions, row, strict=True):
            picture = np.take(volume, position, axis)[plane].T
            drawn = panel.imshow(picture, cmap=colours, vmin=low, vmax=high, origin="lower", aspect=ratio)
            panel.axis("off")
            if contour is not None and (edge := np.take(contour, position, axis)[plane].T).any():
                panel.contour(edge, [0.5], colors="#ff5a36", linewidths=1.0)
    figure.subplots_adjust(left=0.005, right=0.92 if bar else 0.995, top=0.995, bottom=0.005)
    if bar:
        colorbar = figure.colorbar(drawn, cax=figure.add_axes((0.93, 0.25, 0.012, 0.5)))
        colorbar.set_label(bar, color="white")
        colorbar.ax.tick_params(colors="white")
    return _encode(figure, "jpeg")


def histograms(curves: dict[str, tuple[np.ndarray, np.ndarray]]) -> str:
    """Densities by name, (positions, values); the reference dashed."""
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    panels = figure.subplots(1, 2)
    raw = {name: curve for name, curve in curves.items() if name == "raw"}
    for panel, part, title in ((panels[0], raw, "raw"), (panels[1], curves, "on the models' scale")):
        for name, (x, y) in part.items():
            if panel is panels[1] and name == "raw":
                continue
            panel.plot(x, y, "--k" if name == "reference" else "-", label=name, lw=1.6)
        panel.set_title(title)
        panel.set_xlabel("intensity inside the brain")
        panel.set_yticks([])
        panel.set_ylim(bottom=0)
        panel.legend(frameon=False)
    return _encode(figure, "png")


def density(values: np.ndarray, span: tuple[float, float] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Smoothed histogram of intensities."""
    from scipy.ndimage import gaussian_filter1d

    span = span or (0.0, float(np.percentile(values, 99.8)))
    counts, edges = np.histogram(values, 160, span, density=True)
    return (edges[1:] + edges[:-1]) / 2, gaussian_filter1d(counts, 1.5)


def density_of_quantiles(quantiles: np.ndarray, span: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """The same from quantiles at even steps."""
    values = np.interp(np.linspace(0, 1, 20_001), np.linspace(0, 1, len(quantiles)), quantiles)
    return density(values, span)


def mask_box(mask: np.ndarray, margin: int = 4) -> tuple[slice, ...]:
    """The mask's bounding box and a margin, inside the volume."""
    box = []
    for axis in range(3):
        used = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        low, high = (used[0], used[-1] + 1) if len(used) else (0, mask.shape[axis])
        box.append(slice(max(0, low - margin), min(mask.shape[axis], high + margin)))
    return tuple(box)


def _encode(figure: Figure, kind: str) -> str:
    buffer = io.BytesIO()
    options = {"pil_kwargs": {"quality": 80}} if kind == "jpeg" else {}
    figure.savefig(buffer, format=kind, dpi=_DPI, facecolor=figure.get_facecolor(), **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
