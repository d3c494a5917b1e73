"""Measures that compare two images of one brain, or describe one. Volumes are (X, Y, Z) in [0, 1], masks bool.

Every measure takes arrays of one shape and returns a float. x and y are the two images, sums and means go over the N
voxels of the mask.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage, stats
from skimage.filters import threshold_multiotsu
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

BINS = 128  # of intensities, for classes
SIGMA = 1.5  # voxels; Wang 2004
WINDOW = 11  # voxels, of that Gaussian: what is farther from the mask has no part in the means inside it
HIGHEST_PSNR = 120.0  # dB, of images that are the same


def ssim(a: np.ndarray, b: np.ndarray, mask: np.ndarray) -> float:
    r"""Structural similarity, mean over the mask; higher is better, 1 for the same image.

    .. math:: \frac{(2 \mu_x \mu_y + 0.01^2)(2 \sigma_{xy} + 0.03^2)}
              {(\mu_x^2 + \mu_y^2 + 0.01^2)(\sigma_x^2 + \sigma_y^2 + 0.03^2)}

    Means, variances and covariance are local, in three dimensions, weighted by a Gaussian of σ = 1.5 voxels; the data
    range is 1. Wang et al. 2004, IEEE Transactions on Image Processing 13(4).
    """
    box = _around(mask, WINDOW)
    _, local = structural_similarity(
        a[box], b[box], data_range=1.0, gaussian_weights=True, sigma=SIGMA, use_sample_covariance=False, full=True
    )
    return float(local[mask[box]].mean())


def psnr(a: np.ndarray, b: np.ndarray, mask: np.ndarray) -> float:
    r"""Peak signal-to-noise ratio in dB; higher is better, at most 120 (the same image).

    .. math:: 10 \log_{10} \frac{1}{\frac{1}{N} \sum (x - y)^2}

    The peak is 1. Huynh-Thu and Ghanbari 2008, Electronics Letters 44(13).
    """
    with np.errstate(divide="ignore"):
        return min(float(peak_signal_noise_ratio(a[mask], b[mask], data_range=1.0)), HIGHEST_PSNR)


def mae(a: np.ndarray, b: np.ndarray, mask: np.ndarray) -> float:
    r"""Mean absolute error; lower is better, 0 for the same image.

    .. math:: \frac{1}{N} \sum |x - y|

    The L1 of Cackowski et al. 2023, Medical Image Analysis 88, section 2.3.
    """
    return float(np.abs(a[mask] - b[mask]).mean())


def gradient_correlation(a: np.ndarray, b: np.ndarray, mask: np.ndarray) -> float:
    r"""Correlation of the gradients of two images; 1 where every edge kept its place and sign, -1 where all turned.

    .. math:: r(\nabla x, \nabla y)

    r is Pearson's correlation over voxels and directions, gradients are central differences. High is better where only
    contrast may change; the truth itself has less than 1 where scanners differ in contrast. After Penney et al. 1998,
    IEEE Transactions on Medical Imaging 17(4), who correlate the gradients of each direction.
    """
    box = _around(mask, 1)
    ga, gb = (np.stack(np.gradient(volume[box]))[:, mask[box]].ravel() for volume in (a, b))
    return correlation(ga, gb)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    r"""Pearson's correlation of two vectors (n,); 1 is best, 0 where one of them is constant.

    .. math:: \frac{\sum (x - \bar x)(y - \bar y)}{\sqrt{\sum (x - \bar x)^2 \sum (y - \bar y)^2}}

    Pearson 1895, Proceedings of the Royal Society 58.
    """
    a, b = a - a.mean(), b - b.mean()
    norm = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / norm) if norm > 0 else 0.0


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's correlation of two vectors (n,): Pearson's of their ranks; 1 is best, 0 where one is constant.

    Spearman 1904, American Journal of Psychology 15(1).
    """
    return float(stats.spearmanr(a, b).statistic) if np.ptp(a) and np.ptp(b) else 0.0


def histogram_distance(quantiles_a: np.ndarray, quantiles_b: np.ndarray) -> float:
    r"""Wasserstein-1 distance of two intensity distributions; lower is better, 0 for the same.

    .. math:: \int_0^1 |Q_x(p) - Q_y(p)| \, dp

    Both are given by their quantiles (Q,) at the same, even steps of p. Villani 2009, Optimal Transport, chapter 6.
    """
    return float(np.abs(np.asarray(quantiles_a) - np.asarray(quantiles_b)).mean())


def gray_white_contrast(volume: np.ndarray, mask: np.ndarray) -> float:
    r"""Contrast between gray and white matter, g and w being their mean intensities; neither way is better.

    .. math:: \frac{w - g}{(w + g) / 2}

    The tissues are the two brighter of three classes (Otsu 1979, IEEE Transactions on Systems, Man, and Cybernetics
    9(1)); 0 where the image has fewer than four of 128 intensities. The measure is that of Fischl's pctsurfcon
    (FreeSurfer), over whole tissues.
    """
    values = volume[mask]
    if np.count_nonzero(np.histogram(values, BINS)[0]) < 4:
        return 0.0
    classes = np.digitize(values, threshold_multiotsu(values, classes=3, nbins=BINS))
    gray, white = (float(values[classes == index].mean()) for index in (1, 2))
    return 2 * (white - gray) / (white + gray)


def _around(mask: np.ndarray, margin: int) -> tuple[slice, ...]:
    """The mask's box and so many voxels on all sides, inside the volume; all of it where the mask is empty."""
    boxes = ndimage.find_objects(mask.astype(np.uint8))
    return tuple(slice(max(0, side.start - margin), side.stop + margin) for side in boxes[0]) if boxes else (...,)
