"""MRIQC's measures of one image, by its names and formulas (Esteban et al. 2017, PLOS ONE 12(9)), of a bare brain.

Volumes are (X, Y, Z), masks bool; `inside` are voxels well inside each tissue (`tissue_ratios.well_inside`). A bare
brain has no air around it: CNR lacks the term of its noise, and EFC and WM2MAX are those of the mask. What a tissue
with one voxel or one intensity leaves undefined is NaN or infinite.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

NAMES = {"csf": "csf", "gm": "gray", "wm": "white"}  # MRIQC's names of the tissues, and ours
MAD = 1.4826  # times the median absolute deviation: a standard deviation, of a normal distribution
BRIGHTEST = 99.95  # %: WM2MAX's maximum


def image_quality(
    image: np.ndarray, mask: np.ndarray, inside: Mapping[str, np.ndarray], spacing: tuple[float, float, float]
) -> dict[str, float]:
    """All measures by their names; `spacing` is the size of a voxel in mm."""
    tissues = {name: image[inside[ours]].astype(np.float64) for name, ours in NAMES.items()}
    with np.errstate(divide="ignore", invalid="ignore"):
        numbers = {
            "cjv": cjv(tissues["wm"], tissues["gm"]),
            "cnr": cnr(tissues["wm"], tissues["gm"]),
            **{f"snr_{name}": snr(values) for name, values in tissues.items()},
            "wm_cov": wm_cov(tissues["wm"]),
            "wm2max": wm2max(tissues["wm"], image[mask]),
            "efc": efc(image[mask]),
            **dict(zip(("fwhm_x", "fwhm_y", "fwhm_z"), fwhm(image, mask, spacing), strict=True)),
        }
    return {name: float(number) for name, number in numbers.items()}


def cjv(white: np.ndarray, gray: np.ndarray) -> float:
    r"""Coefficient of joint variation of the intensities of two tissues (n,), (m,); lower is better.

    .. math:: \frac{\sigma_{WM} + \sigma_{GM}}{|\mu_{WM} - \mu_{GM}|}

    μ is the median and σ 1.4826 times the median absolute deviation, as in MRIQC. Ganzetti et al. 2016, Frontiers in
    Neuroinformatics 10:10.
    """
    return (_deviation(white) + _deviation(gray)) / abs(_median(white) - _median(gray))


def cnr(white: np.ndarray, gray: np.ndarray) -> float:
    r"""Contrast-to-noise ratio of two tissues (n,), (m,); higher is better.

    .. math:: \frac{|\mu_{WM} - \mu_{GM}|}{\sqrt{\sigma_{WM}^2 + \sigma_{GM}^2}}

    μ is the median, σ the standard deviation. Magnotta and Friedman 2006, Journal of Digital Imaging 19(2); MRIQC adds
    the variance of the air below the root.
    """
    return abs(_median(white) - _median(gray)) / np.hypot(_spread(white), _spread(gray))


def snr(values: np.ndarray) -> float:
    r"""Signal-to-noise ratio inside one tissue of n voxels; higher is better.

    .. math:: \frac{\mu}{\sigma \sqrt{n / (n - 1)}}

    μ is the median, σ the standard deviation (Magnotta and Friedman 2006; MRIQC).
    """
    return _median(values) / _spread(values) if len(values) > 1 else np.nan


def wm_cov(white: np.ndarray) -> float:
    r"""Coefficient of variation of white matter (n,), by what its outliers do not move; lower is better.

    .. math:: \sigma_{WM} / \mu_{WM}

    μ is the median and σ 1.4826 times the median absolute deviation. Not of MRIQC: the usual measure of what a bias
    field leaves (Vovk et al. 2007, IEEE Transactions on Medical Imaging 26(3)).
    """
    return _deviation(white) / _median(white)


def wm2max(white: np.ndarray, brain: np.ndarray) -> float:
    r"""Level of white matter (n,) relative to the brightest of the brain (m,); 0.6 to 0.8 is usual (MRIQC).

    .. math:: \mu_{WM} / P_{99.95}
    """
    return _median(white) / np.percentile(brain, BRIGHTEST) if len(brain) else np.nan


def efc(brain: np.ndarray) -> float:
    r"""Entropy focus criterion of intensities x (n,), not negative; lower is better: blurring and ghosts raise it.

    .. math:: \frac{\sum x / x_{max} \ln (x / x_{max})}{\sqrt{n} \ln (1 / \sqrt{n})}, \quad x_{max} = \sqrt{\sum x^2}

    Atkinson et al. 1997, IEEE Transactions on Medical Imaging 16(6), relative to the entropy of n equal voxels.
    """
    energy = np.sqrt(np.sum(brain.astype(np.float64) ** 2))
    share = brain[brain > 0] / energy
    return float(np.sum(share * np.log(share)) / (np.sqrt(len(brain)) * np.log(1 / np.sqrt(len(brain)))))


def fwhm(image: np.ndarray, mask: np.ndarray, spacing: tuple[float, float, float]) -> tuple[float, float, float]:
    r"""Full width at half maximum in mm, per axis, of the Gaussian that would make white noise as smooth as the image.

    .. math:: \Delta \sqrt{\frac{-2 \ln 2}{\ln (1 - \sigma_d^2 / 2 \sigma^2)}}

    σ² is the variance in the mask, σ_d² that of the differences of neighbours in it, Δ their distance. Lower is better
    where anatomy is the same, since it counts as well; 0 where neighbours are no more alike than others. Forman et al.
    1995, Magnetic Resonance in Medicine 33(5); AFNI's 3dFWHMx, which MRIQC calls.
    """
    variance = np.var(image[mask], dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        alike = [1 - _roughness(image, mask, axis) / (2 * variance) for axis in range(3)]
        return tuple(
            float(step * np.sqrt(-2 * np.log(2) / np.log(np.maximum(correlation, 0))))
            for correlation, step in zip(alike, spacing, strict=True)
        )


def inu(field: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    r"""Intensity non-uniformity of a bias field in a mask: its range, lower is better, and its median (MRIQC).

    .. math:: P_{95} - P_{5}
    """
    low, middle, high = np.percentile(field[mask], (5, 50, 95))
    return {"inu_range": float(high - low), "inu_med": float(middle)}


def _roughness(image: np.ndarray, mask: np.ndarray, axis: int) -> np.float64:
    """Variance of the differences of neighbours along an axis that lie both in the mask."""
    inside = np.moveaxis(mask, axis, 0)
    differences = np.diff(np.moveaxis(image, axis, 0), axis=0)[inside[1:] & inside[:-1]]
    return np.var(differences, dtype=np.float64) if len(differences) else np.float64(np.nan)


def _median(values: np.ndarray) -> np.float64:
    return np.float64(np.median(values)) if len(values) else np.float64(np.nan)


def _deviation(values: np.ndarray) -> np.float64:
    """Standard deviation by the median absolute deviation."""
    return MAD * _median(np.abs(values - _median(values)))


def _spread(values: np.ndarray) -> np.float64:
    """Standard deviation with n − 1."""
    return np.std(values, ddof=1) if len(values) > 1 else np.float64(np.nan)
