"""Noise goes with contrast: stretching a flat scan stretches its noise, and a classifier knows a scanner by it.

Where the harmonized brain is noisier than the reference, it is denoised until it is about as noisy: never less, and
nothing gets noise added. What is known of the choice of estimator and filter: `benchmarks/noise.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from imunity_bids.harmonize.slices import bounding_box
from imunity_bids.image.smooth import mean_in_mask
from imunity_bids.image.white_stripe import WHITE_MATTER

TREND = 1.5  # voxels (σ) of the local trend: half of what resampling from 1.3 mm correlates, and no anatomy yet
BORDER = 8  # voxels from the mask's surface, beyond which no cortex is taken for white matter
AROUND = 0.06  # of the white matter's level, after smoothing
EVENEST = 0.5  # share of the voxels found there, by the gradient of the smoothed image
LOUDER = 1.2  # times the reference's noise, from where something is done
AIM = 1.1  # times the reference's noise, to where
PATCH, SEARCH = 3, 1  # voxels: width of the patches, and how far others are looked for
CUT_OFF = 0.8  # of the weights, in units of the noise
SPOT, SURE = 0.85, 2.5  # voxels (σ; 2 mm wide), and how many times its noise a mean over it must be to be no noise
EDGE = 0.5  # per voxel, in units of the noise
LEVEL = 2.0  # voxels (σ): what is larger is no noise
FEWEST = 1000  # voxels of white matter: the error of σ is 2 %


@dataclass(frozen=True)
class Noise:
    """Standard deviations of the noise in white matter, white matter being at 0.7; NaN: not known."""

    before: float
    after: float
    wanted: float  # the reference's
    strength: float  # share of the denoised image in the result, 0 to 1

    @classmethod
    def unchanged(cls, found: float, wanted: float) -> Noise:
        """Of an image that stays as it is."""
        return cls(found, found, wanted, 0.0)

    def measures(self) -> dict[str, float]:
        """For sidecar and report; what is not known is left out."""
        numbers = {"noise_reference": self.wanted, "noise_before": self.before, "noise_after": self.after}
        return {name: value for name, value in numbers.items() if np.isfinite(value)}


def white_noise(volume: np.ndarray, mask: np.ndarray) -> float:
    """Standard deviation of the noise well inside white matter; NaN where there is too little of it.

    What a Gaussian of σ = `TREND` leaves of the image, by its median absolute deviation, divided by what that filter
    would leave of white noise of standard deviation 1. Noise that resampling made smooth is counted, too, to which
    differences of neighbours (Immerkær 1996, Donoho's wavelets) are blind: at 1.3 mm they see a quarter of it.

    Parameters
    ----------
    volume
        White-striped brain (X, Y, Z) in [0, 1] at 1 mm, white matter at 0.7.
    mask
        Brain, bool.
    """
    volume, mask, _ = _cut(volume, mask)
    white = _deep_white(volume, mask)
    return _deviation(_residual(volume)[white]) if np.count_nonzero(white) >= FEWEST else float("nan")


def match_noise(
    volume: np.ndarray,
    mask: np.ndarray,
    wanted: float,
    denoise: Callable | None = None,
    seen: np.ndarray | None = None,
) -> tuple[np.ndarray, Noise]:
    """The brain, denoised until its noise is `AIM` times the wanted one, or as near as the filter comes.

    Where it is less than `LOUDER` times the wanted one, or where one of them is not known (NaN), the volume itself
    comes back. Outside the mask nothing changes.

    Parameters
    ----------
    volume, mask
        As for `white_noise`.
    wanted
        The reference's noise, by the same measure.
    denoise
        Another filter than `non_local_means`, which takes and gives the same.
    seen
        Part of the mask (bool) whose noise counts, without lesions; None: all of it.
    """
    brain, inside, box = _cut(volume, mask)
    white = _deep_white(brain, inside if seen is None else seen[box])
    if np.count_nonzero(white) < FEWEST:
        return volume, Noise.unchanged(float("nan"), wanted)
    noisy = _residual(brain)[white]
    before = _deviation(noisy)
    if not before > LOUDER * wanted:  # also where it is NaN
        return volume, Noise.unchanged(before, wanted)
    change = ((denoise or non_local_means)(brain, inside, before) - brain) * inside
    change = _only_noise(change, inside, white) * _evenness(brain, inside, before)
    removed = _residual(change)[white]
    strength = _strength(noisy, removed, AIM * wanted)
    result = volume.copy()
    result[box] += strength * change
    return result, Noise(before, _deviation(noisy + strength * removed), wanted, strength)


def non_local_means(brain: np.ndarray, mask: np.ndarray, noise: float) -> np.ndarray:
    """Buades 2005 with the known noise: every voxel is the mean of its neighbours, by how like their patches are."""
    from skimage.restoration import denoise_nl_means

    filled = _filled(brain, mask)
    return denoise_nl_means(filled, PATCH, SEARCH, CUT_OFF * noise, fast_mode=True, sigma=noise).astype(np.float32)


def _only_noise(change: np.ndarray, mask: np.ndarray, white: np.ndarray) -> np.ndarray:
    """What of a filter's change is noise: has no extent and no mean.

    Where the change, averaged over `SPOT`, is more than noise makes it in white matter, the filter took something that
    is there: it is left. What the change is on average over `LEVEL` is given back, so that no tissue becomes brighter.
    """
    extent = np.abs(ndimage.gaussian_filter(change, SPOT))
    usual = max(1.4826 * float(np.median(extent[white])), 1e-6)
    change = change / (1 + (extent / (SURE * usual)) ** 4)
    return ((change - mean_in_mask(change, mask, LEVEL)) * mask).astype(np.float32)


def _evenness(brain: np.ndarray, mask: np.ndarray, noise: float) -> np.ndarray:
    """How little of an edge there is, 1 where there is none, to 0: half where the slope is `EDGE` times the noise."""
    slope = ndimage.gaussian_gradient_magnitude(_filled(brain, mask), 1.0)
    return (1 / (1 + (slope / (EDGE * noise)) ** 2)).astype(np.float32)


def _strength(noisy: np.ndarray, change: np.ndarray, aim: float) -> float:
    """The least share of the change that brings the deviation to the aim, by bisection; all where none does."""
    low, high = 0.0, 1.0
    if _deviation(noisy + change) >= aim:
        return high
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if _deviation(noisy + middle * change) > aim else (low, middle)
    return high


def _deviation(residual: np.ndarray) -> float:
    """Of white noise whose residual this is, from the median absolute deviation."""
    impulse = np.zeros((15,) * 3, np.float32)
    impulse[7, 7, 7] = 1
    gain = np.linalg.norm(_residual(impulse))
    return float(1.4826 * np.median(np.abs(residual - np.median(residual))) / gain)


def _residual(volume: np.ndarray) -> np.ndarray:
    return volume - ndimage.gaussian_filter(volume, TREND)


def _deep_white(volume: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Voxels well inside white matter, (X, Y, Z) bool, chosen by the smoothed image so that noise does not choose."""
    level = ndimage.gaussian_filter(volume, TREND)
    candidates = ndimage.binary_erosion(mask, iterations=BORDER) & (np.abs(level - WHITE_MATTER) < AROUND)
    candidates = ndimage.binary_erosion(candidates, iterations=2)
    if not candidates.any():
        return candidates
    steepness = np.sqrt(sum(slope**2 for slope in np.gradient(level)))
    return candidates & (steepness <= np.quantile(steepness[candidates], EVENEST))


def _cut(volume: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[slice, ...]]:
    """Volume and mask in the mask's box, and the box; the volume is 0 outside the mask."""
    box = bounding_box(mask)
    return (volume[box] * mask[box]).astype(np.float32), mask[box], box


def _filled(brain: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Outside the mask, what is near inside: else the filter would mix darkness into the brain's rim."""
    return np.where(mask, brain, mean_in_mask(brain, mask, 1.0)).astype(np.float32)
