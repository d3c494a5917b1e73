"""Numbers that compare two images of one brain. Volumes are (X, Y, Z) in [0, 1], masks bool of the same shape."""

from __future__ import annotations

import numpy as np
from scipy import stats
from skimage.filters import threshold_multiotsu
from skimage.metrics import structural_similarity

SIGMA = 1.5  # voxels; Wang 2004


def ssim(a: np.ndarray, b: np.ndarray, mask: np.ndarray) -> float:
    """3D SSIM (Wang 2004): Gaussian σ = 1.5, data range 1, mean over the mask."""
    _, local = structural_similarity(
        a, b, data_range=1.0, gaussian_weights=True, sigma=SIGMA, use_sample_covariance=False, full=True
    )
    return float(local[mask].mean())


def psnr(a: np.ndarray, b: np.ndarray, mask: np.ndarray) -> float:
    """Peak signal to noise ratio in dB inside the mask, peak 1."""
    return float(-10 * np.log10(np.mean((a[mask] - b[mask]) ** 2) + 1e-12))


def mae(a: np.ndarray, b: np.ndarray, mask: np.ndarray) -> float:
    """Mean absolute error inside the mask."""
    return float(np.abs(a[mask] - b[mask]).mean())


def gradient_correlation(a: np.ndarray, b: np.ndarray, mask: np.ndarray) -> float:
    """Correlation of the gradient vectors of two images inside the mask: 1 where every edge kept its place and sign."""
    ga, gb = (np.stack(np.gradient(v))[:, mask].ravel() for v in (a, b))
    return correlation(ga, gb)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's; 0 where one of them is constant."""
    a, b = a - a.mean(), b - b.mean()
    norm = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / norm) if norm > 0 else 0.0


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's; 0 where one of them is constant."""
    return float(stats.spearmanr(a, b).statistic) if np.ptp(a) and np.ptp(b) else 0.0


def histogram_distance(quantiles_a: np.ndarray, quantiles_b: np.ndarray) -> float:
    """Wasserstein-1 distance of two intensity distributions given by quantiles at the same, even steps."""
    return float(np.abs(np.asarray(quantiles_a) - np.asarray(quantiles_b)).mean())


def gray_white_contrast(volume: np.ndarray, mask: np.ndarray) -> float:
    """(white − gray) / (white + gray), doubled: means of the two brighter of three Otsu classes inside the mask."""
    values = volume[mask]
    if np.unique(values[:: max(1, len(values) // 10_000)]).size < 4:
        return 0.0
    classes = np.digitize(values, threshold_multiotsu(values, classes=3, nbins=128))
    gray, white = (float(values[classes == index].mean()) for index in (1, 2))
    return 2 * (white - gray) / (white + gray)
