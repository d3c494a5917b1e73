"""The space of the models: a template's brain and mask, from TemplateFlow or built in. Never silently another one."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from imunity_bids.bids.spaces import FIRST, OutputSpace, space_label
from imunity_bids.errors import InputMissing, TryAgain, Usage
from imunity_bids.image.white_stripe import white_stripe
from imunity_bids.settings import DEFAULT_TEMPLATE

BUILT_IN = "MNI152NLin2009aSym"
CORE = (0.92, 1.10)  # of the template's own white-matter peak: intensities of its white core


@dataclass(frozen=True)
class Template:
    """Brain (float32, 1 mm, zero outside the mask) and mask (bool) of a standard space."""

    name: str  # "MNIPediatricAsym:cohort-2" for a cohort
    brain: nib.Nifti1Image
    mask: np.ndarray

    @property
    def label(self) -> str:
        """For the entity `space-`: letters and digits only."""
        return space_label(self.name)

    @cached_property
    def sha256(self) -> str:
        """Of voxels and grid: a template of the same name may change with the release of TemplateFlow."""
        parts = (np.asarray(self.brain.dataobj), self.mask, self.brain.affine)
        return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest()

    @cached_property
    def white_core(self) -> np.ndarray:
        """Voxels (bool) well inside white matter: near the template's own peak, and so are their neighbours."""
        data = np.asarray(self.brain.dataobj)
        low, high = np.array(CORE) * white_stripe(data, self.mask).peak
        return ndimage.binary_erosion((data > low) & (data < high) & self.mask)

    def overlap(self, mask: np.ndarray) -> float:
        """Dice of the template's mask and a brain mask (bool) on its grid."""
        return float(2 * (mask & self.mask).sum() / (mask.sum() + self.mask.sum()))

    def core_on(self, image: nib.Nifti1Image) -> np.ndarray | None:
        """The white core on the grid of an image that was cut out of this space; None where it is on another grid."""
        offset = np.linalg.inv(self.brain.affine) @ image.affine
        start = np.rint(offset[:3, 3]).astype(int)
        stop = start + image.shape[:3]
        same = np.allclose(offset[:3, :3], np.eye(3), atol=1e-3) and np.allclose(offset[:3, 3], start, atol=0.01)
        if not same or (start < 0).any() or (stop > self.white_core.shape).any():
            return None
        return self.white_core[tuple(slice(low, high) for low, high in zip(start, stop, strict=True))]


@lru_cache(maxsize=2)
def load_template(name: str = DEFAULT_TEMPLATE) -> Template:
    """A template by name, `NAME` or `NAME:cohort-N`.

    Raises
    ------
    InputMissing, TryAgain, Usage
        No such template, or it is not in the cache and cannot be fetched.
    """
    if name == BUILT_IN:
        return built_in()
    mask = _fetch(name, desc="brain", suffix="mask")
    head = _fetch(name, required=False, desc="brain", suffix="T1w") or _fetch(name, desc=None, suffix="T1w")
    return _template(name, nib.load(head), nib.load(mask))


def grid_of(space: OutputSpace) -> nib.Nifti1Image:
    """A template's grid at one of its resolutions, in RAS order: its voxels are those of the mask or head there.

    Raises
    ------
    InputMissing, TryAgain, Usage
        As `load_template`.
    """
    if space.template == BUILT_IN:
        if not re.fullmatch(r"[1-9]", space.resolution):
            raise Usage(f"--output-spaces {space}: {BUILT_IN} comes in whole mm, res-1 to res-9")
        from nilearn.datasets import load_mni152_brain_mask

        return nib.as_closest_canonical(load_mni152_brain_mask(resolution=int(space.resolution)))
    if space.resolution == FIRST:
        return load_template(space.template).brain
    mask = _fetch(space.template, space.resolution, required=False, desc="brain", suffix="mask")
    path = mask or _fetch(space.template, space.resolution, desc=None, suffix="T1w")
    return nib.as_closest_canonical(nib.load(path))


def white_core_of(name: str, image: nib.Nifti1Image) -> np.ndarray | None:
    """White core on the grid of a derivative by its file's name, `…_space-LABEL_…`; None where the template is unknown.

    Only the default and the built-in template are known by their labels.
    """
    found = re.search(r"_space-([A-Za-z0-9]+)_", name)
    if not found or found[1] not in (DEFAULT_TEMPLATE, BUILT_IN):
        return None
    return load_template(found[1]).core_on(image)


def built_in() -> Template:
    """ICBM 152 2009a symmetric, which nilearn carries: needs no network."""
    from nilearn.datasets import load_mni152_brain_mask, load_mni152_template

    return _template(BUILT_IN, load_mni152_template(resolution=1), load_mni152_brain_mask(resolution=1))


def template_home() -> Path:
    """TemplateFlow's folder: TEMPLATEFLOW_HOME, or its default."""
    from templateflow.conf import TF_HOME

    return Path(TF_HOME)


def _template(name: str, head: nib.Nifti1Image, mask: nib.Nifti1Image) -> Template:
    mask = nib.as_closest_canonical(mask)
    head = nib.as_closest_canonical(head)
    inside = np.asarray(mask.dataobj) > 0.5
    brain = np.asarray(head.dataobj, dtype=np.float32) * inside
    return Template(name, nib.Nifti1Image(brain, head.affine), inside)


def _fetch(name: str, resolution: str = FIRST, required: bool = True, **entities: str | None) -> Path | None:
    """One file of TemplateFlow, from its cache or its server."""
    space, _, cohort = name.partition(":")
    if cohort and not re.fullmatch(r"cohort-\w+", cohort):
        raise Usage(f"--template {name}: write NAME or NAME:cohort-N")
    if cohort:
        entities["cohort"] = cohort.removeprefix("cohort-")
    fine = "" if resolution == FIRST else f":res-{resolution}"
    os.environ.setdefault("TEMPLATEFLOW_AUTOUPDATE", "0")
    from templateflow import api

    ways_out = (
        f"Fetch it where there is a network (imunity-fetch {name}{fine}) and point TEMPLATEFLOW_HOME there "
        f"(now {template_home()}), or use the one that is built in: --template {BUILT_IN}"
    )
    try:
        files = api.get(space, resolution=resolution, extension=".nii.gz", raise_empty=False, **entities)
    except ValueError:
        files = []
    except Exception as error:  # requests and boto raise many kinds; all mean "not now"
        raise TryAgain(
            f"template {name}{fine} is not in the cache and could not be fetched ({type(error).__name__}). {ways_out}"
        ) from error
    paths = [Path(p) for p in (files if isinstance(files, list) else [files])]
    paths = [p for p in paths if p.is_file() and p.stat().st_size > 0]
    if len(paths) > 1:
        raise Usage(f"template {space} comes in several cohorts; name one: --template {space}:cohort-N")
    if not paths and required:
        raise InputMissing(f"template {name}{fine} is not in TemplateFlow's cache ({entities}). {ways_out}")
    return paths[0] if paths else None
