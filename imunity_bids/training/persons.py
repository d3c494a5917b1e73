"""Persons for the simulated visits, made from real brains once and kept."""

from __future__ import annotations

import hashlib
from dataclasses import fields
from pathlib import Path

import nibabel as nib
import numpy as np
from joblib import delayed
from scipy import ndimage

from imunity_bids.bids.outputs import write_atomically
from imunity_bids.parallel import in_parallel
from imunity_bids.simulation.persons import take_apart
from imunity_bids.simulation.visit_volumes import Coarse, coarse
from imunity_bids.training.dataset import Brain


def make_persons(brains: list[Brain], folder: Path, jobs: int = 1) -> list[Coarse]:
    """Take brains apart into tissues and texture (half a minute each); what is in `folder` is read."""
    folder.mkdir(parents=True, exist_ok=True)
    return in_parallel([delayed(_person)(brain, folder) for brain in brains], jobs, "persons")


def _person(brain: Brain, folder: Path) -> Coarse:
    content, names = content_of(brain), [field.name for field in fields(Coarse)]
    file = folder / f"{content}.npz"
    if file.exists():
        with np.load(file) as stored:
            if set(stored) == set(names):  # else another version made it
                return Coarse(**{name: stored[name] for name in names})
    affine = np.diag([*brain.zooms, 1.0])
    image = brain.volume.float().numpy()
    mask = ndimage.binary_fill_holes(image > 0)  # the darkest CSF may be 0
    person = take_apart(brain.name, nib.Nifti1Image(image, affine), mask)
    made = coarse(person, image, np.random.default_rng(int(content[:16], 16)))
    arrays = {name: getattr(made, name) for name in names}
    write_atomically(file, lambda path: np.savez(path, **arrays))
    return made


def content_of(brain: Brain) -> str:
    """Hash of intensities, shape and voxel size: two sites may have a sub-01 each, and one brain two names."""
    values = brain.volume.contiguous().numpy()
    about = f"{values.shape} {values.dtype} {[float(zoom) for zoom in brain.zooms]}"
    return hashlib.sha256(about.encode() + values.tobytes()).hexdigest()[:32]
