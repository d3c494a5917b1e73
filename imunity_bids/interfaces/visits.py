"""Steps that bring the scans of one person to the template through a space midway between them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nipype.interfaces.base import File, InputMultiPath, OutputMultiPath, TraitedSpec, traits

from imunity_bids.interfaces.base import Inputs, Interface, load, save, seen_of
from imunity_bids.interfaces.preprocess import TOUCHED, BiasOutputs, correlation_there, seen_there


class _MidSpaceInputs(Inputs):
    in_files = InputMultiPath(File(exists=True), mandatory=True, desc="conformed images of one person")
    masks = InputMultiPath(File(exists=True), mandatory=True, desc="their brain masks")
    seens = InputMultiPath(File(exists=True), mandatory=True, desc="the same without lesions")
    template = traits.Str(mandatory=True)
    kind = traits.Enum("affine", "rigid", usedefault=True)
    seed = traits.Int(1, usedefault=True)


class _MidSpaceOutputs(TraitedSpec):
    motions = OutputMultiPath(File(), desc="ITK transforms, scan to mid-space")
    affine = File(desc="ITK transform, mid-space to template")
    mid_mask = File(desc="brain mask in the mid-space, uint8")
    template_mask = File(desc="the same in template space")


class FindMidSpace(Interface):
    """Conformed images of one person -> the space between them, one mask and one affine."""

    input_spec = _MidSpaceInputs
    output_spec = _MidSpaceOutputs

    def work(self, folder: Path) -> dict[str, Any]:
        """See `image.mid_space`."""
        from imunity_bids.image.ants_bridge import apply, register, write_motion
        from imunity_bids.image.mid_space import mid_space, moved
        from imunity_bids.image.template import load_template

        given, template = self.inputs, load_template(self.inputs.template)
        images = [load(path)[0] for path in given.in_files]
        masks = [load(path)[1] > 0 for path in given.masks]
        lesions = [mask & (load(path)[1] == 0) for mask, path in zip(masks, given.seens, strict=True)]
        found = mid_space(images, masks, given.seed, folder)
        lesion = np.zeros(found.mask.shape, bool)
        for image, part, motion in zip(images, lesions, found.motions, strict=True):
            if part.any():
                lesion |= moved(part.astype(np.float32), image, found.mean, motion, folder, "linear") > TOUCHED
        affine, _ = register(found.mean, template.brain, given.kind, given.seed, folder, lesion)
        inside = apply(found.mask.astype(np.float32), found.mean, template.brain, affine, "linear") > 0.5
        motions = [write_motion(folder / f"visit{index}.mat", motion) for index, motion in enumerate(found.motions)]
        return {
            "motions": list(map(str, motions)),
            "affine": str(affine),
            "mid_mask": save(folder / "mid_mask.nii", found.mask.astype(np.uint8), found.mean),
            "template_mask": save(folder / "template_mask.nii", inside.astype(np.uint8), template.brain),
        }


class _PlaceInputs(Inputs):
    in_file = File(exists=True, mandatory=True, desc="conformed image")
    mask = File(exists=True, mandatory=True, desc="brain mask of this scan alone")
    seen = File(exists=True, desc="the mask without lesions, if it has any")
    index = traits.Int(mandatory=True, desc="which of the motions is that of this scan")
    motions = InputMultiPath(File(exists=True), mandatory=True, desc="scan to mid-space")
    affine = File(exists=True, mandatory=True, desc="mid-space to template")
    mid_mask = File(exists=True, mandatory=True, desc="brain mask of all scans in the mid-space")
    template_mask = File(exists=True, mandatory=True, desc="the same in template space")
    template = traits.Str(mandatory=True)


class _PlaceOutputs(TraitedSpec):
    native_mask = File(desc="the shared mask on the voxels of the scan, uint8")
    native_seen = File(desc="the same without lesions")
    mask = File(desc="the shared mask in template space")
    seen = File(desc="the same without lesions")
    forward = File(desc="ITK transform, image to template")
    backward = File(desc="ITK transform, template to image")
    overlap = traits.Float(desc="Dice of the brain mask and the template's")
    info = traits.Dict(desc="correlation with the template, overlap of the masks, volume of the shared mask")


class PlaceVisit(Interface):
    """One scan of a person -> template space, by its own motion and what all share. In the place of `Register`."""

    input_spec = _PlaceInputs
    output_spec = _PlaceOutputs

    def work(self, folder: Path) -> dict[str, Any]:
        """The motion and the affine are one transform: the scan is resampled once."""
        from imunity_bids.image.ants_bridge import read_motion, write_motion
        from imunity_bids.image.mid_space import moved
        from imunity_bids.image.template import load_template

        given, template = self.inputs, load_template(self.inputs.template)
        image, data = load(given.in_file)
        own = load(given.mask)[1] > 0
        lesion = own & ~seen_of(given, own)
        motion = read_motion(Path(given.motions[given.index]))  # mid-space to scan, as points go
        whole = motion @ read_motion(Path(given.affine))
        forward = write_motion(folder / "forward.mat", whole)
        backward = write_motion(folder / "backward.mat", np.linalg.inv(whole))
        middle, shared = load(given.mid_mask)
        native = moved(shared.astype(np.float32), middle, image, np.linalg.inv(motion), folder, "linear") > 0.5
        inside = load(given.template_mask)[1] > 0
        native_seen, seen = native & ~lesion, seen_there(inside, lesion, image, template, forward)
        overlap = template.overlap(inside)
        return {
            "native_mask": save(folder / "native_mask.nii", native.astype(np.uint8), image),
            "native_seen": save(folder / "native_seen.nii", native_seen.astype(np.uint8), image),
            "mask": given.template_mask,
            "seen": save(folder / "seen.nii", seen.astype(np.uint8), template.brain),
            "forward": str(forward),
            "backward": str(backward),
            "overlap": overlap,
            "info": {
                "template_correlation": correlation_there(data * native, image, template, forward, seen),
                "template_dice": overlap,
                "brain_volume_ml": _volume_ml(native, image),
            },
        }


class _DeviationsInputs(Inputs):
    in_files = InputMultiPath(File(exists=True), mandatory=True, desc="without their own fields, in template space")
    seens = InputMultiPath(File(exists=True), mandatory=True, desc="brain masks without lesions there")


class _DeviationsOutputs(TraitedSpec):
    out_files = OutputMultiPath(File(), desc="log of each scan's field relative to the mean of all, smooth, 3 mm")


class FindDeviations(Interface):
    """Scans of one person by one scanner -> what their fields still differ by."""

    input_spec = _DeviationsInputs
    output_spec = _DeviationsOutputs

    def work(self, folder: Path) -> dict[str, Any]:
        """See `image.shared_field`."""
        from imunity_bids.image.shared_field import deviations

        given = self.inputs
        seen = np.logical_and.reduce([load(path)[1] > 0 for path in given.seens])
        found = deviations([load(path)[0] for path in given.in_files], seen)
        paths = [folder / f"deviation{index}.nii" for index in range(len(found))]
        for deviation, path in zip(found, paths, strict=True):
            deviation.to_filename(path)
        return {"out_files": list(map(str, paths))}


class _ShareFieldInputs(Inputs):
    native_t1w = File(exists=True, mandatory=True, desc="scan without its own field")
    field = File(exists=True, mandatory=True, desc="that field")
    moved = File(exists=True, mandatory=True, desc="the scan in template space")
    bias_info = traits.Dict(mandatory=True, desc="how the field was found")
    native_seen = File(exists=True, mandatory=True, desc="brain mask without lesions on the voxels of the scan")
    backward = File(exists=True, mandatory=True, desc="ITK transform, template to image")
    index = traits.Int(mandatory=True, desc="which of the deviations is that of this scan")
    deviations = InputMultiPath(File(exists=True), mandatory=True)


class ShareField(Interface):
    """Scan without its own field -> scan whose field is the mean of the person's by this scanner."""

    input_spec = _ShareFieldInputs
    output_spec = BiasOutputs

    def work(self, folder: Path) -> dict[str, Any]:
        """The scan is not resampled: the deviation, which is smooth, is."""
        from imunity_bids.image.ants_bridge import apply
        from imunity_bids.image.spaces import write_identity
        from imunity_bids.metrics.image_quality import inu

        given = self.inputs
        deviation, logs = load(given.deviations[given.index])

        def here(grid: nib.Nifti1Image, transform: Path) -> np.ndarray:
            return np.exp(apply(logs, deviation, grid, transform, "linear"))

        (image, data), (place, moved) = load(given.native_t1w), load(given.moved)
        factor = here(image, Path(given.backward))
        field = load(given.field)[1] * factor
        moved = moved / here(place, write_identity(folder / "identity.mat"))
        return {
            "out_file": save(folder / "unbiased.nii", data / factor, image),
            "field": save(folder / "field.nii", field, image),
            "moved": save(folder / "template.nii", moved, place),
            "info": {
                "method": f"{given.bias_info['method']}; the mean field of the person's scans by this scanner",
                "measures": inu(field, load(given.native_seen)[1] > 0),
            },
        }


def _volume_ml(mask: np.ndarray, image: nib.Nifti1Image) -> float:
    return float(mask.sum() * np.prod(image.header.get_zooms()[:3]) / 1000)
