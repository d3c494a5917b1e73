"""Simulated traveling subjects: the same person on as many scanners as wished, with the truth known.

The truth is what the scanner would give with even fields and without noise, the median of what is white matter alone at
exactly 0.7. (Over many brains this is where the app puts it, by the median where the template has its white core.)
"""

from __future__ import annotations

from typing import NamedTuple

import nibabel as nib
import numpy as np

from imunity_bids.image.bias_field import smoothed, unbiased
from imunity_bids.image.smooth import FWHM, mean_in_mask
from imunity_bids.image.white_stripe import WHITE_MATTER, to_model_scale, white_stripe
from imunity_bids.simulation.fields import receive_field, squared_distance_in, transmit_field
from imunity_bids.simulation.persons import Person
from imunity_bids.simulation.scanners import Scanner

SCATTER = 0.03  # relative, of T1 between persons
MIDDLE_VOXELS = 6  # standard deviation of where the transmit field is largest


class Visit(NamedTuple):
    """One person on one scanner: the preprocessed scan and its truth, white matter at 0.7, 0 outside the brain."""

    scan: np.ndarray
    truth: np.ndarray


def visit(person: Person, scanner: Scanner, seed: int) -> Visit:
    """The scan of a person on a scanner after the app's own steps, and its truth; `seed` as in `traveler`.

    The truth does not follow what the scan was measured to be: a missed field or white level is an error.
    """
    scan, truth = traveler(person, scanner, seed)
    return Visit(preprocessed(scan, person), np.clip(truth, 0, 1))


def traveler(person: Person, scanner: Scanner, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """One visit: the scan as the app would see it before its bias correction, and the truth, (X, Y, Z) float32.

    White matter is at about 0.7. A person's T1 depends on seed and name alone, so that it is the same on every scanner;
    fields and noise depend on the scanner's name, too.
    """
    scatter = relative_t1(person.name, seed)
    rng = np.random.default_rng([seed, *person.name.encode(), *scanner.name.encode()])
    truth = perfect(person, scanner, scatter)
    middle = squared_distance_in(person.mask, MIDDLE_VOXELS * rng.standard_normal(3))  # it moves a little each visit
    flip_scale = transmit_field(middle, scanner.transmit, person.mask).astype(np.float32)
    image = _image(person, scanner, flip_scale, scatter)
    image = image * receive_field(image.shape, scanner.receive, rng)
    noise = scanner.noise * rng.standard_normal((2, *image.shape))
    noisy = np.hypot(image + noise[0], noise[1])  # Rician
    return (noisy * person.mask).astype(np.float32), truth


def relative_t1(name: str, seed: int) -> np.ndarray:
    """T1 of a person's tissues, relative to the usual, (3,)."""
    return 1 + SCATTER * np.random.default_rng([seed, *name.encode()]).standard_normal(3)


def perfect(person: Person, scanner: Scanner, scatter: np.ndarray) -> np.ndarray:
    """Even and noiseless image (X, Y, Z) float32 on a scanner, white matter at 0.7; `scatter` as from `relative_t1`.

    With another person's T1 it is the most that a reference of that person can tell.
    """
    image = _image(person, scanner, np.ones((1, 1, 1)), scatter) * person.mask
    return (image * (WHITE_MATTER / np.median(image[person.white]))).astype(np.float32)


def preprocessed(scan: np.ndarray, person: Person) -> np.ndarray:
    """The app's own steps in template space: bias field, white stripe, white matter at 0.7 in [0, 1]."""
    core = person.core
    image = nib.Nifti1Image(scan, person.affine)
    corrected = unbiased(image, person.mask, None if core is None else smoothed(core), "white-matter").image
    return to_model_scale(corrected, person.mask, white_stripe(corrected, person.mask, core))[0]


def _image(person: Person, scanner: Scanner, flip_scale: np.ndarray, scatter: np.ndarray) -> np.ndarray:
    """Noiseless image at the scanner's resolution, white matter at about 0.7; `scatter` scales the tissues' T1 (3)."""
    inside = np.broadcast_to(flip_scale, person.mask.shape)[person.mask] if flip_scale.size > 1 else flip_scale.ravel()
    level = WHITE_MATTER * scanner.signal(inside, scatter) / scanner.signal(np.ones(1), scatter)[2]
    image = np.zeros(person.mask.shape, np.float32)
    image[person.mask] = (level * person.parts[:, person.mask]).sum(0)
    sigma = np.array(scanner.fwhm_mm) / FWHM / np.linalg.norm(person.affine[:3, :3], axis=0)
    return mean_in_mask(np.maximum(image, 0) * person.mask, person.mask, sigma)
