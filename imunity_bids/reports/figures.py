"""Pictures for the reports: mosaics of slices and histograms, as data URIs. Volumes are RAS arrays."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

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
    axes = figure.subplots(3, 1, gridspec_kw={"height_ratios": heights, "hspace": 0.02})
    for axis, panel in enumerate(axes):
        ratio = zooms[2 if axis < 2 else 1] / zooms[1 if axis == 0 else 0]
        width = round(max(extent) / zooms[1 if axis == 0 else 0])
        strip = _strip(volume, box, axis, columns, width, fill=np.nan if np.isnan(volume).any() else low)
        drawn = panel.imshow(strip, cmap=colours, vmin=low, vmax=high, origin="lower", aspect=ratio)
        panel.axis("off")
        if contour is not None and (edge := _strip(contour.astype(float), box, axis, columns, width, fill=0)).any():
            panel.contour(edge, [0.5], colors="#ff5a36", linewidths=1.0)
    return _framed(figure, drawn, bar, (0.25, 0.5))


def _strip(volume: np.ndarray, box: tuple[slice, ...], axis: int, columns: int, width: int, fill: float) -> np.ndarray:
    """Slices along an axis, evenly spread over the box, side by side in cells `width` pixels wide."""
    start, stop = box[axis].start, box[axis].stop
    positions = np.linspace(start + 0.12 * (stop - start), stop - 0.12 * (stop - start), columns).astype(int)
    plane = tuple(box[a] for a in range(3) if a != axis)
    pictures = [np.moveaxis(volume, axis, 0)[position][plane].T for position in positions]  # np.take copies the volume
    free = max(0, width - pictures[0].shape[1])
    return np.hstack([np.pad(p, ((0, 0), (free // 2, free - free // 2)), constant_values=fill) for p in pictures])


def side_by_side(
    volumes: dict[str, np.ndarray],
    box: tuple[slice, ...],
    limits: tuple[float, float],
    cmap: str = "gray",
    bar: str | None = None,
    columns: int = 6,
) -> str:
    """The same axial slices of volumes on one grid of 1 mm, a row for each, with its name; `bar` as in `mosaic`."""
    width, height = (box[axis].stop - box[axis].start for axis in (0, 1))
    rows = len(volumes)
    figure = Figure(figsize=(11, 11 * rows * height / (columns * width) + 0.1), facecolor="black")
    axes = figure.subplots(rows, 1, squeeze=False, gridspec_kw={"hspace": 0.02})[:, 0]
    for panel, (name, volume) in zip(axes, volumes.items(), strict=True):
        strip = _strip(volume, box, 2, columns, width, fill=limits[0])
        drawn = panel.imshow(strip, cmap=cmap, vmin=limits[0], vmax=limits[1], origin="lower", aspect="auto")
        panel.text(0.005, 0.95, name, color="white", transform=panel.transAxes, va="top", fontsize=11)
        panel.axis("off")
    return _framed(figure, drawn, bar, (0.15, 0.7))


def _framed(figure: Figure, drawn: AxesImage, bar: str | None, place: tuple[float, float]) -> str:
    """Without margins, encoded; with a colour bar of this label, whose start and length are shares of the height."""
    figure.subplots_adjust(left=0.005, right=0.92 if bar else 0.995, top=0.995, bottom=0.005)
    if bar:
        colorbar = figure.colorbar(drawn, cax=figure.add_axes((0.93, place[0], 0.012, place[1])))
        colorbar.set_label(bar, color="white")
        colorbar.ax.tick_params(colors="white")
    return encode(figure, "jpeg")


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
    return encode(figure, "png")


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


def encode(figure: Figure, kind: str) -> str:
    """A figure as data URI; `kind` is jpeg, png or svg."""
    buffer = io.BytesIO()
    options = {"pil_kwargs": {"quality": 80}} if kind == "jpeg" else {}
    figure.savefig(buffer, format=kind, dpi=_DPI, facecolor=figure.get_facecolor(), **options)
    media = "svg+xml" if kind == "svg" else kind
    return f"data:image/{media};base64,{base64.b64encode(buffer.getvalue()).decode()}"
