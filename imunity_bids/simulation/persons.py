"""Persons: tissue fractions, and the texture that they leave unexplained, of a real white-striped brain."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import nibabel as nib
import numpy as np

from imunity_bids.image.ants_bridge import tissue_fractions
from imunity_bids.image.smooth import mean_in_mask

PUREST = 0.95  # share of white matter
LEFTOVERS = 8.0  # σ in voxels: what is smoother in the texture is what the base scan's bias correction left


@dataclass(frozen=True)
class Person:
    """One brain, (X, Y, Z) at 1 mm: fractions of `TISSUES`, what they leave of the image, and where it came from."""

    name: str
    affine: np.ndarray
    fractions: np.ndarray  # (3, X, Y, Z), sum 1 in the mask
    texture: np.ndarray  # in units of the local difference between tissues
    mask: np.ndarray
    core: np.ndarray | None = None  # where the template has white matter (bool); None: no template is known

    @property
    def white(self) -> np.ndarray:
        """Where it is white matter alone, (X, Y, Z) bool; the person's own, whatever the template says."""
        white = self.fractions[2] * self.mask
        return white > min(PUREST, 0.9 * white.max())

    @cached_property
    def parts(self) -> np.ndarray:
        """(3, X, Y, Z): the person's image is the sum of these, each times the level of its tissue.

        Texture goes with the difference to the neighbour in contrast: gray − CSF in CSF, white − gray in white matter.
        """
        darker = self.texture * _darker(self.fractions)
        brighter = self.texture - darker
        return self.fractions + np.stack([-darker, darker - brighter, brighter])


def take_apart(name: str, brain: nib.Nifti1Image, mask: np.ndarray, core: np.ndarray | None = None) -> Person:
    """Tissue fractions of a white-striped brain (X, Y, Z) by Atropos (k-means, Markov field), and the texture left.

    The texture's smooth part is taken away: it is a field that the base scan kept, not anatomy.
    """
    data = np.asarray(brain.dataobj, dtype=np.float32)
    fractions = tissue_fractions(brain, mask)
    means = np.array([(data * share).sum() / share.sum() for share in fractions])
    order = np.argsort(means)
    fractions, means = fractions[order], means[order]
    darker = _darker(fractions)
    step = (means[1] - means[0]) * darker + (means[2] - means[1]) * (1 - darker)
    texture = (data - np.tensordot(means, fractions, 1)) / step
    texture = texture * mask
    texture = (texture - mean_in_mask(texture, mask, LEFTOVERS)) * mask
    return Person(name, brain.affine, fractions, texture.astype(np.float32), mask, core)


def _darker(fractions: np.ndarray) -> np.ndarray:
    """Share of the texture that lies between CSF and gray matter; the rest lies between gray and white, (X, Y, Z)."""
    return np.clip(fractions[0] + 0.5 * fractions[1], 0, 1)
