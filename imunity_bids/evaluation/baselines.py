"""What harmonization must beat: changes of intensity that know nothing of anatomy. Brains in [0, 1], 0 outside."""

from __future__ import annotations

import numpy as np
from skimage.filters import threshold_multiotsu
from sklearn.isotonic import IsotonicRegression

from imunity_bids.metrics.matching import inside_mask, matching_to

LANDMARKS = (1, *range(10, 100, 10), 99)  # percentiles; Shah 2011


def histogram_matching(brain: np.ndarray, mask: np.ndarray, references: list[np.ndarray]) -> np.ndarray:
    """Give the brain the mean quantiles of reference brains (nonzero where they are brain)."""
    return matching_to(brain, mask, np.mean([np.percentile(r[r > 0], range(101)) for r in references], axis=0))


def nyul(brain: np.ndarray, mask: np.ndarray, references: list[np.ndarray]) -> np.ndarray:
    """Nyúl 2000: percentiles of the brain moved to their means over reference brains of the target scanner."""
    standard = np.mean([np.percentile(reference[reference > 0], LANDMARKS) for reference in references], axis=0)
    return nyul_to(brain, mask, standard)


def nyul_to(brain: np.ndarray, mask: np.ndarray, standard: np.ndarray) -> np.ndarray:
    """The same, the mean percentiles (at `LANDMARKS`) of the reference brains being known."""
    own = np.percentile(brain[mask], LANDMARKS)
    return inside_mask(mask, _through(own, standard, brain[mask]))


def tissue_curve(brain: np.ndarray, mask: np.ndarray, references: list[np.ndarray]) -> np.ndarray:
    """One monotone curve for the whole brain, through the means of three Otsu classes of brain and references."""
    own, aim = _tissue_means(brain[mask]), np.mean([_tissue_means(r[r > 0]) for r in references], axis=0)
    return inside_mask(mask, _through(np.append(0, own), np.append(0, aim), brain[mask]))


def best_curve(brain: np.ndarray, mask: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The best that one monotone curve could do, being fitted to the truth (least squares): a bound, no method."""
    fit = IsotonicRegression(out_of_bounds="clip")
    values, counts = np.unique(np.round(brain[mask] * 1023).astype(int), return_inverse=True)
    weight = np.bincount(counts)
    fit.fit(values / 1023, np.bincount(counts, truth[mask]) / weight, sample_weight=weight)
    return inside_mask(mask, fit.predict(brain[mask]))


def _tissue_means(values: np.ndarray) -> np.ndarray:
    classes = np.digitize(values, threshold_multiotsu(values, classes=3, nbins=256))
    return np.array([values[classes == index].mean() for index in range(3)])


def _through(at: np.ndarray, to: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Piecewise-linear function through points; beyond the last one its slope goes on."""
    slope = (to[-1] - to[-2]) / max(at[-1] - at[-2], 1e-6)
    beyond = to[-1] + (values - at[-1]) * slope
    return np.where(values > at[-1], beyond, np.interp(values, at, to))
