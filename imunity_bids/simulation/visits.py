"""Travelers that we can make: the same person on as many scanners as wished, with the truth known.

The truth is what the scanner would give with even fields and without noise.
"""

from __future__ import annotations

from typing import NamedTuple

import nibabel as nib
import numpy as np
from scipy import ndimage

from imunity_bids.image.ants_bridge import bias_corrected
from imunity_bids.image.white_stripe import WHITE_MATTER, to_model_scale, white_stripe
from imunity_bids.simulation.persons import Person
from imunity_bids.simulation.scanners import Scanner

SCATTER = 0.03  # relative, of T1 between persons
FWHM = np.sqrt(8 * np.log(2))  # of a Gaussian, relative to σ


class Visit(NamedTuple):
    """One person on one scanner: the preprocessed scan and its truth in the same unit, 0 outside the brain."""

    scan: np.ndarray
    truth: np.ndarray


def visit(someone: Person, scanner: Scanner, seed: int) -> Visit:
    """A person goes to a scanner, and the scan through the app's own steps."""
    scan, truth = traveler(someone, scanner, seed)
    scan = preprocessed(scan, someone)
    white = someone.fractions[2] > 0.9
    return Visit(scan, np.clip(truth * np.median(scan[white]) / np.median(truth[white]), 0, 1))


def traveler(someone: Person, scanner: Scanner, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """One visit: the scan as the app would see it before its bias correction, and the truth, (X, Y, Z) float32.

    White matter is at about 0.7. A person's T1 goes along to every scanner: it depends on the name alone.
    """
    own = np.random.default_rng([seed, *someone.name.encode()])
    scatter = 1 + SCATTER * own.standard_normal(3)
    rng = np.random.default_rng([seed, *someone.name.encode(), *scanner.name.encode()])
    truth = _image(someone, scanner, np.ones((1, 1, 1)), scatter)
    image = _image(someone, scanner, _transmit_field(someone.mask, scanner.transmit, rng), scatter)
    image = image * _receive_field(image.shape, scanner.receive, rng)
    noise = scanner.noise * rng.standard_normal((2, *image.shape))
    noisy = np.hypot(image + noise[0], noise[1])  # Rician
    return (noisy * someone.mask).astype(np.float32), (truth * someone.mask).astype(np.float32)


def preprocessed(scan: np.ndarray, someone: Person) -> np.ndarray:
    """The app's own steps in template space: N4, white stripe, white matter at 0.7 in [0, 1]."""
    corrected = bias_corrected(nib.Nifti1Image(scan, someone.affine), someone.mask)
    return to_model_scale(corrected, someone.mask, white_stripe(corrected, someone.mask))[0]


def _image(someone: Person, scanner: Scanner, flip_scale: np.ndarray, scatter: np.ndarray) -> np.ndarray:
    signal = scanner.signal(flip_scale, scatter)
    level = WHITE_MATTER * signal / scanner.signal(np.ones((1, 1, 1)), scatter)[2]
    image = (level * someone.parts).sum(0)
    sigma = np.array(scanner.fwhm_mm) / FWHM / np.linalg.norm(someone.affine[:3, :3], axis=0)
    # what is outside the brain does not bleed in: blur over the mask only
    weight = ndimage.gaussian_filter(someone.mask.astype(np.float32), sigma)
    return ndimage.gaussian_filter(np.maximum(image, 0) * someone.mask, sigma) / np.maximum(weight, 1e-3)


def _transmit_field(mask: np.ndarray, excess: float, rng: np.random.Generator) -> np.ndarray:
    """Flip-angle scale, 1 in the mean over the brain: larger in the middle, which moves a little each visit."""
    where = np.argwhere(mask)
    centre = where.mean(0) + 6 * rng.standard_normal(3)
    radius = (where.max(0) - where.min(0)) / 2
    grid = np.ogrid[tuple(slice(n) for n in mask.shape)]
    distance = sum(((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radius, strict=True))
    field = 1 + excess * (1 - np.minimum(distance, 1.5))
    return (field / field[mask].mean()).astype(np.float32)


def _receive_field(shape: tuple[int, ...], amplitude: float, rng: np.random.Generator) -> np.ndarray:
    """Smooth positive factor."""
    coarse = rng.standard_normal((4, 4, 4))
    field = ndimage.zoom(coarse, np.array(shape) / 4, order=3, mode="nearest", grid_mode=True)
    return np.exp(amplitude * field / np.abs(field).max()).astype(np.float32)
