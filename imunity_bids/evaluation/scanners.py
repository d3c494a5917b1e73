"""Travelers that we can make: the same person on as many scanners as wished, with the truth known.

A person is tissue fractions and the texture that they leave unexplained, taken from a real white-striped brain. A
scanner is a protocol (`sequences`), a transmit and a receive field, a resolution and noise. The truth is what the
scanner would give with even fields and without noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage

from imunity_bids.evaluation.sequences import decayed, inversion_delay, mprage, recovery_time, spgr
from imunity_bids.image.ants_bridge import bias_corrected, tissue_fractions
from imunity_bids.image.white_stripe import WHITE_MATTER, to_model_scale, white_stripe

TISSUES = ("csf", "gray", "white")
SCATTER = 0.03  # relative, of T1 between persons
FWHM = np.sqrt(8 * np.log(2))  # of a Gaussian, relative to σ


@dataclass(frozen=True)
class Relaxation:
    """T1 and T2* in ms and relative proton density of `TISSUES`, at one field strength."""

    t1: tuple[float, float, float]
    t2_star: tuple[float, float, float]
    density: tuple[float, float, float] = (1.0, 0.82, 0.70)


AT_1_5_T = Relaxation((4000, 1050, 640), (1200, 84, 66))
AT_3_T = Relaxation((4300, 1331, 832), (900, 60, 48))


@dataclass(frozen=True)
class Scanner:
    """A protocol and what the machine adds. Times in ms, angles in degrees."""

    name: str
    tissue: Relaxation
    tr: float
    te: float
    flip: float
    ti: float | None = None  # with an inversion the sequence is an MPRAGE, else an SPGR
    readouts: int = 0
    spacing: float = 0.0
    transmit: float = 0.0  # relative excess of the flip angle in the middle of the head over its rim
    receive: float = 0.2  # amplitude of the receive field
    fwhm_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)  # of the blur beyond 1 mm voxels
    noise: float = 0.01  # standard deviation in each channel, white matter being at 0.7

    def signal(self, flip_scale: np.ndarray, scatter: np.ndarray) -> np.ndarray:
        """Signals (3, …) of `TISSUES` under a map of flip angles (…), T1 being scaled by `scatter` (3)."""
        shape = (3,) + (1,) * flip_scale.ndim
        t1, t2_star, density = (
            torch.tensor(values, dtype=torch.float32).reshape(shape)
            for values in (np.multiply(self.tissue.t1, scatter), self.tissue.t2_star, self.tissue.density)
        )
        flip = torch.from_numpy(self.flip * flip_scale).float()[None]
        if self.ti is None:
            signal = spgr(t1, torch.tensor(self.tr), flip)
        else:
            delay = inversion_delay(self.ti, self.readouts, self.spacing)
            times = (delay, self.readouts, self.spacing, recovery_time(self.tr, delay, self.readouts, self.spacing))
            signal = mprage(t1, *(torch.tensor(float(time)) for time in times), flip)
        return decayed(signal, density, torch.tensor(self.te), t2_star).numpy()


# Typical of protocols in use; training draws its own (training/contrast.py) and none of these.
SCANNERS = (
    Scanner("SPGR-1.5T", AT_1_5_T, 24, 5.0, 30, transmit=0.04, receive=0.15, fwhm_mm=(1.2, 0.0, 0.0), noise=0.012),
    Scanner("SPGR-3T", AT_3_T, 9.6, 4.6, 11, transmit=0.18, receive=0.30, fwhm_mm=(0.8, 0.8, 0.8), noise=0.010),
    Scanner("MPRAGE-1.5T", AT_1_5_T, 2400, 3.5, 8, 1000, 160, 8.9, 0.04, 0.15, (0.8, 0.0, 0.8), 0.014),
    Scanner("MPRAGE-3T", AT_3_T, 2300, 3.0, 9, 900, 176, 7.1, 0.18, 0.30, (0.0, 0.0, 0.0), 0.008),
    Scanner("MPRAGE-3T-long", AT_3_T, 2400, 2.1, 8, 1100, 256, 7.6, 0.15, 0.25, (0.0, 0.8, 0.0), 0.010),
    Scanner("IR-SPGR-3T", AT_3_T, 1900, 3.0, 12, 700, 100, 7.0, 0.18, 0.30, (0.0, 1.0, 0.0), 0.012),
)


@dataclass(frozen=True)
class Person:
    """One brain, (X, Y, Z) at 1 mm: fractions of `TISSUES`, what they leave of the image, and where it came from."""

    name: str
    affine: np.ndarray
    fractions: np.ndarray  # (3, X, Y, Z), sum 1 in the mask
    texture: np.ndarray  # in units of the local difference between tissues
    mask: np.ndarray

    @cached_property
    def parts(self) -> np.ndarray:
        """(3, X, Y, Z): the person's image is the sum of these, each times the level of its tissue.

        Texture goes with the difference to the neighbour in contrast: gray − CSF in CSF, white − gray in white matter.
        """
        darker = self.texture * _darker(self.fractions)
        brighter = self.texture - darker
        return self.fractions + np.stack([-darker, darker - brighter, brighter])


def person(name: str, brain: nib.Nifti1Image, mask: np.ndarray) -> Person:
    """Take a white-striped brain apart: Atropos (k-means, Markov field) and the remaining texture."""
    data = np.asarray(brain.dataobj, dtype=np.float32)
    fractions = tissue_fractions(brain, mask)
    means = np.array([(data * share).sum() / share.sum() for share in fractions])
    order = np.argsort(means)
    fractions, means = fractions[order], means[order]
    darker = _darker(fractions)
    step = (means[1] - means[0]) * darker + (means[2] - means[1]) * (1 - darker)
    texture = (data - np.tensordot(means, fractions, 1)) / step
    return Person(name, brain.affine, fractions, texture * mask, mask)


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


def _darker(fractions: np.ndarray) -> np.ndarray:
    """Share of the texture that lies between CSF and gray matter; the rest lies between gray and white, (X, Y, Z)."""
    return np.clip(fractions[0] + 0.5 * fractions[1], 0, 1)


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
