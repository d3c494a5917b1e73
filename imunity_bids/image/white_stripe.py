"""White stripe (Shinohara 2014, doi:10.1016/j.nicl.2014.08.008) and the scale of the models: white matter at 0.7."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage, signal

from imunity_bids.errors import DataUnusable

WHITE_MATTER = 0.7
BINS = 1000
SMOOTHING = 0.015  # of the intensity range: about what the bandwidth rule of the original gives on a 1 mm brain
RARE = 0.2  # a peak lower than this share of the highest is no tissue
STRIPE = 0.05  # quantiles on both sides of the peak


@dataclass(frozen=True)
class WhiteStripe:
    """Where white matter lies in an image, in its own unit."""

    peak: float
    width: float  # full width at half maximum, from the bright side: the dark side runs into gray matter
    mean: float  # of the stripe
    std: float
    zero: float  # intensity that becomes 0

    @property
    def scale(self) -> float:
        """Factor from the image's unit to the models'."""
        return WHITE_MATTER / (self.peak - self.zero)


def smoothed_histogram(values: np.ndarray, top: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Bin centres and density of the values from their minimum to the 99.9th percentile (or `top`)."""
    top = float(np.percentile(values, 99.9)) if top is None else top
    low = float(values.min())
    if not top > low:
        raise DataUnusable("the brain has one intensity only")
    counts, edges = np.histogram(values, BINS, (low, top))
    density = ndimage.gaussian_filter1d(counts.astype(float), SMOOTHING * BINS, mode="constant")
    return (edges[1:] + edges[:-1]) / 2, density / density.sum()


def white_stripe(data: np.ndarray, mask: np.ndarray) -> WhiteStripe:
    """Find the white-matter peak of a T1w image: the last peak of the histogram inside the brain that is not rare.

    Raises
    ------
    DataUnusable
        There is no peak.
    """
    core = ndimage.binary_erosion(mask, iterations=2)
    values = data[core if core.sum() > 1000 else mask]
    centres, density = smoothed_histogram(values)
    peaks, _ = signal.find_peaks(np.pad(density, 1), height=RARE * density.max(), prominence=0.02 * density.max())
    if len(peaks) == 0:
        raise DataUnusable("the histogram of the brain has no white-matter peak")
    index = int(peaks[-1]) - 1
    peak = float(centres[index])
    below_half = int(np.argmax(np.append(density[index:], 0) < density[index] / 2)) - 1
    quantile = float((values < peak).mean())
    low, high = np.quantile(values, [max(0.0, quantile - STRIPE), min(1.0, quantile + STRIPE)])
    stripe = values[(values >= low) & (values <= high)]
    return WhiteStripe(
        peak=peak,
        width=2 * float(centres[index + below_half] - peak),
        mean=float(stripe.mean()),
        std=float(stripe.std()),
        zero=float(min(0.0, values.min())),
    )


def to_model_scale(data: np.ndarray, mask: np.ndarray, stripe: WhiteStripe) -> tuple[np.ndarray, float]:
    """Brain in [0, 1] with the white-matter peak at 0.7, 0 outside the mask; and the share of voxels cut at 1.

    Any linear normalisation before this one (the stripe's z-score) cancels out, so it is not applied.
    """
    scaled = (data - stripe.zero) * stripe.scale * mask
    clipped = float((scaled[mask] > 1).mean()) if mask.any() else 0.0
    return np.clip(scaled, 0, 1).astype(np.float32), clipped
