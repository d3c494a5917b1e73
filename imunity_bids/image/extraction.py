"""Choose how the brain is found: our network, registration, SynthStrip, or what an earlier tool or person left."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import nibabel as nib
import numpy as np

from imunity_bids.errors import DataUnusable, InputMissing, Usage
from imunity_bids.image import brain_mask
from imunity_bids.image.given_mask import check_on_tissue, mask_on
from imunity_bids.models.card import BRAIN_NETWORK
from imunity_bids.models.device import on_gpu_or_cpu, resolve_device


def extract_brain(
    image: nib.Nifti1Image,
    method: str = "auto",
    border_mm: float = 0.0,
    model: str = "",
    synthstrip_model: str = "",
    device: str = "cpu",
) -> brain_mask.BrainMask:
    """Brain mask of a conformed image.

    Parameters
    ----------
    method
        "network"; "auto", which is the network unless the scan is already stripped; "none" (it is stripped);
        "ants" (slow); "synthstrip" (needs its weights).
    """
    if method == "none":
        return brain_mask.stripped_mask(image)
    if method == "ants":
        return _by_registration(image)
    if method == "synthstrip":
        return _by_synthstrip(image, synthstrip_model)
    folder = Path(model) if model else BRAIN_NETWORK
    brain = on_gpu_or_cpu(
        lambda where: brain_mask.network_mask(image, brain_mask.load_network(folder, where), border_mm),
        resolve_device(device),
    )
    if method == "auto" and brain_mask.is_stripped(image, brain.mask):
        return brain_mask.stripped_mask(image)
    return brain


def brain_of_file(image: nib.Nifti1Image, path: Path) -> brain_mask.BrainMask:
    """The mask of a file, on the grid of a conformed image: as it is, and measured.

    Raises
    ------
    DataUnusable, InputMissing
        It is not a mask of this image's brain; it cannot be read.
    """
    mask = mask_on(image, path)
    check_on_tissue(image, mask)
    return brain_mask.known_mask(mask, image)


def _by_registration(image: nib.Nifti1Image) -> brain_mask.BrainMask:
    from imunity_bids.image.ants_bridge import registered_mask
    from imunity_bids.image.template import built_in

    template = built_in()
    return brain_mask.measure(registered_mask(image, template.brain, template.mask), image, "ants")


def _by_synthstrip(image: nib.Nifti1Image, weights: str) -> brain_mask.BrainMask:
    """Run the package nipreps-synthstrip with the user's weights."""
    if find_spec("nipreps.synthstrip") is None:
        raise Usage("--skull-strip synthstrip needs the extra: pip install 'imunity-bids[synthstrip]'")
    if not Path(weights).is_file():
        raise InputMissing(f"--synthstrip-model {weights or '(not given)'}: SynthStrip's weights are not there")
    with tempfile.TemporaryDirectory() as scratch:
        source, target = Path(scratch, "image.nii"), Path(scratch, "mask.nii")
        image.to_filename(source)
        command = [sys.executable, "-m", "nipreps.synthstrip", "-i", source, "-m", target, "--model", weights]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode or not target.is_file():
            raise DataUnusable(f"SynthStrip failed: {done.stderr.strip().splitlines()[-1:]}")
        return brain_mask.measure(np.asarray(nib.load(target).dataobj) > 0, image, "synthstrip")
