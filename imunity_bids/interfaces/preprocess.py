"""Steps from the raw image to the white-striped brain in template space."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
from nipype.interfaces.base import File, TraitedSpec, isdefined, traits

from imunity_bids.interfaces.base import Inputs, Interface, load, naming, save, seen_of

if TYPE_CHECKING:
    from imunity_bids.image.brain_mask import BrainMask
    from imunity_bids.image.template import Template


TOUCHED = 0.1  # share of a voxel from which a lesion takes it away: its border tells nothing reliable


class _ConformInputs(Inputs):
    in_file = File(exists=True, mandatory=True, desc="raw T1w image")


class _ConformOutputs(TraitedSpec):
    out_file = File(desc="RAS, 3D, finite, float32")
    info = traits.Dict(desc="what was mended, size of a voxel")


class Conform(Interface):
    """Raw image -> conformed image."""

    input_spec = _ConformInputs
    output_spec = _ConformOutputs

    def work(self, folder: Path) -> dict[str, Any]:
        """See `image.conform`."""
        from imunity_bids.image.conform import conform, read_image

        image, fixes = conform(*read_image(Path(self.inputs.in_file)))
        voxel_mm = [round(float(size), 4) for size in image.header.get_zooms()[:3]]
        out_file = folder / "conformed.nii"
        image.to_filename(out_file)
        return {"out_file": str(out_file), "info": {"fixes": fixes, "voxel_mm": voxel_mm}}


class _DenoiseInputs(Inputs):
    in_file = File(exists=True, mandatory=True, desc="conformed image")


class _DenoiseOutputs(TraitedSpec):
    out_file = File(desc="image with less noise, float32")


class Denoise(Interface):
    """Conformed image -> conformed image with less noise."""

    input_spec = _DenoiseInputs
    output_spec = _DenoiseOutputs

    def work(self, folder: Path) -> dict[str, Any]:
        """See `image.ants_bridge`."""
        from imunity_bids.image.ants_bridge import denoised

        image, _ = load(self.inputs.in_file)
        return {"out_file": save(folder / "denoised.nii", denoised(image).astype(np.float32), image)}


class _BrainInputs(Inputs):
    in_file = File(exists=True, mandatory=True, desc="conformed image")
    method = traits.Enum("auto", "network", "ants", "synthstrip", "none", usedefault=True)
    border = traits.Float(0.0, usedefault=True, desc="shift of the mask's edge in mm")
    model = traits.Str("", desc="model folder instead of the shipped one")
    synthstrip_model = traits.Str("", desc="SynthStrip's weights")
    device = traits.Str("cpu", usedefault=True)
    use_gpu = traits.Bool(False, usedefault=True, desc="takes one of Nipype's GPU slots")
    given = File(exists=True, desc="a mask that was made before, instead of all that")
    given_uri = traits.Str(desc="its name in sidecars")
    lesions = traits.List(File(exists=True), usedefault=True, desc="masks of what is kept out of all estimates")
    lesion_uris = traits.List(traits.Str, usedefault=True)


class _BrainOutputs(TraitedSpec):
    out_file = File(desc="mask, uint8")
    seen = File(desc="the mask without lesions, uint8")
    info = traits.Dict(desc="method, quality measures, whether the scan came without its skull, mL of lesions")


class ExtractBrain(Interface):
    """Conformed image -> brain mask."""

    input_spec = _BrainInputs
    output_spec = _BrainOutputs

    def work(self, folder: Path) -> dict[str, Any]:
        """See `image.extraction`. A lesion belongs to the brain, also where a computed mask leaves it out."""
        from imunity_bids.image.brain_mask import is_stripped

        image, _ = load(self.inputs.in_file)
        known, lesion = isdefined(self.inputs.given), self._lesion(image)
        brain = self._given(image) if known else self._extracted(image)
        mask = brain.mask if known else brain.mask | lesion
        out_file = save(folder / "mask.nii", mask.astype(np.uint8), image)
        seen = mask & ~lesion
        return {
            "out_file": out_file,
            "seen": save(folder / "seen.nii", seen.astype(np.uint8), image) if lesion.any() else out_file,
            "info": {
                "lesion_ml": float((mask & lesion).sum() * np.prod(image.header.get_zooms()[:3]) / 1000),
                "method": f"mask {self.inputs.given_uri}" if known else brain.method,
                "measures": brain.measures(),
                "stripped": is_stripped(image, brain.mask) if known else brain.method == "none",
            },
        }

    def _extracted(self, image: nib.Nifti1Image) -> BrainMask:
        from imunity_bids.image.extraction import extract_brain

        return extract_brain(
            image,
            method=self.inputs.method,
            border_mm=self.inputs.border,
            model=self.inputs.model,
            synthstrip_model=self.inputs.synthstrip_model,
            device=self.inputs.device,
        )

    def _lesion(self, image: nib.Nifti1Image) -> np.ndarray:
        """All lesions together, on the image's grid, bool."""
        from imunity_bids.image.given_mask import mask_on

        lesion = np.zeros(image.shape, bool)
        for path, uri in zip(self.inputs.lesions, self.inputs.lesion_uris, strict=True):
            with naming(uri):
                lesion |= mask_on(image, Path(path), touched=TOUCHED)
        return lesion

    def _given(self, image: nib.Nifti1Image) -> BrainMask:
        from imunity_bids.image.extraction import brain_of_file

        with naming(self.inputs.given_uri):
            return brain_of_file(image, Path(self.inputs.given))


def seen_there(
    inside: np.ndarray, lesion: np.ndarray, image: nib.Nifti1Image, template: Template, forward: Path
) -> np.ndarray:
    """The mask `inside` of template space without what a lesion of the image touches there (both bool)."""
    from imunity_bids.image.ants_bridge import apply

    if not lesion.any():
        return inside
    return inside & ~(apply(lesion.astype(np.float32), image, template.brain, forward, "linear") > TOUCHED)


def correlation_there(
    brain: np.ndarray, image: nib.Nifti1Image, template: Template, forward: Path, seen: np.ndarray
) -> float:
    """Pearson's correlation of a brain on the image's voxels, brought to the template, with the template's.

    At every second voxel along each axis of `seen` (bool, in template space): within 0.001 of all of them.
    """
    from imunity_bids.image.ants_bridge import apply
    from imunity_bids.metrics.similarity import correlation

    every_second = (slice(None, None, 2),) * 3
    coarse = template.brain.slicer[every_second]
    both = (seen & template.mask)[every_second]
    moved = apply(brain, image, coarse, forward, "linear")
    return correlation(moved[both], np.asarray(coarse.dataobj)[both])


class _RegisterInputs(Inputs):
    in_file = File(exists=True, mandatory=True, desc="conformed image")
    mask = File(exists=True, mandatory=True)
    seen = File(exists=True, desc="the mask without lesions, if it has any")
    template = traits.Str(mandatory=True)
    kind = traits.Enum("affine", "rigid", usedefault=True)
    seed = traits.Int(1, usedefault=True)


class _RegisterOutputs(TraitedSpec):
    mask = File(desc="mask in template space, uint8")
    seen = File(desc="the same without lesions")
    forward = File(desc="ITK transform, image to template")
    backward = File(desc="ITK transform, template to image")
    overlap = traits.Float(desc="Dice of the brain mask and the template's")
    info = traits.Dict(desc="correlation with the template, overlap of the masks")


class Register(Interface):
    """Brain -> template space."""

    input_spec = _RegisterInputs
    output_spec = _RegisterOutputs

    def work(self, folder: Path) -> dict[str, Any]:
        """See `image.ants_bridge` and `image.template`."""
        from imunity_bids.image.ants_bridge import apply, register
        from imunity_bids.image.template import load_template

        template = load_template(self.inputs.template)
        image, data = load(self.inputs.in_file)
        mask = load(self.inputs.mask)[1] > 0
        lesion = mask & ~seen_of(self.inputs, mask)
        brain = type(image)(data * mask, image.affine)
        forward, backward = register(brain, template.brain, self.inputs.kind, self.inputs.seed, folder, lesion)
        inside = apply(mask.astype(np.float32), image, template.brain, forward, "linear") > 0.5
        seen = seen_there(inside, lesion, image, template, forward)
        overlap = template.overlap(inside)
        out_file = save(folder / "template_mask.nii", inside.astype(np.uint8), template.brain)
        return {
            "mask": out_file,
            "seen": save(folder / "seen.nii", seen.astype(np.uint8), template.brain) if lesion.any() else out_file,
            "forward": str(forward),
            "backward": str(backward),
            "overlap": overlap,
            "info": {
                "template_correlation": correlation_there(data * mask, image, template, forward, seen),
                "template_dice": overlap,
            },
        }


class _BiasInputs(Inputs):
    in_file = File(exists=True, mandatory=True, desc="conformed image")
    mask = File(exists=True, mandatory=True)
    seen = File(exists=True, desc="the mask without lesions, if it has any")
    template = traits.Str(mandatory=True, desc="where white matter lies")
    template_mask = File(exists=True, mandatory=True, desc="mask in template space")
    forward = File(exists=True, mandatory=True, desc="image to template")
    backward = File(exists=True, mandatory=True, desc="template to image")
    overlap = traits.Float(mandatory=True, desc="Dice of the brain mask and the template's")
    method = traits.Enum("white-matter", "plain", "none", usedefault=True)


class BiasOutputs(TraitedSpec):
    """Of steps that take a field out."""

    out_file = File(desc="image without bias field, float32")
    field = File(desc="the field: image = raw / field")
    moved = File(desc="image without bias field in template space, 0 beyond the box of the brain, not yet masked")
    info = traits.Dict(desc="how the field was found, and its measures")


class CorrectBias(Interface):
    """Bias field, by what the template says of white matter, and the image without it in template space."""

    input_spec = _BiasInputs
    output_spec = BiasOutputs

    def work(self, folder: Path) -> dict[str, Any]:
        """See `image.bias_field`."""
        from imunity_bids.harmonize.slices import bounding_box
        from imunity_bids.image.ants_bridge import apply
        from imunity_bids.image.bias_field import OVERLAP, unbiased, white_map
        from imunity_bids.image.template import load_template
        from imunity_bids.metrics.image_quality import inu

        given = self.inputs
        template = load_template(given.template)
        image, _ = load(given.in_file)
        mask = load(given.mask)[1] > 0
        seen = seen_of(given, mask)
        known = given.method == "white-matter" and given.overlap >= OVERLAP
        white = white_map(template, image, Path(given.backward)) if known else None
        made = unbiased(image, mask, white, given.method, seen)
        box = bounding_box(load(given.template_mask)[1] > 0)
        moved = np.zeros(template.mask.shape, np.float32)
        moved[box] = apply(made.image, image, template.brain.slicer[box], Path(given.forward), "bSpline").clip(0)
        return {
            "out_file": save(folder / "unbiased.nii", made.image, image),
            "field": save(folder / "field.nii", made.field, image),
            "moved": save(folder / "template.nii", moved, template.brain),
            "info": {"method": made.method, "measures": inu(made.field, seen)},
        }


class _StripeInputs(Inputs):
    in_file = File(exists=True, mandatory=True, desc="image in template space")
    mask = File(exists=True, mandatory=True)
    seen = File(exists=True, desc="the mask without lesions, if it has any")
    template = traits.Str(mandatory=True, desc="where white matter lies")


class _StripeOutputs(TraitedSpec):
    out_file = File(desc="brain in [0, 1], white matter at 0.7")
    info = traits.Dict(desc="peak, width, scale, share clipped, white core against the histogram")


class WhiteStripe(Interface):
    """Intensities -> the scale of the models."""

    input_spec = _StripeInputs
    output_spec = _StripeOutputs

    def work(self, folder: Path) -> dict[str, Any]:
        """See `image.white_stripe`."""
        from imunity_bids.image.bias_field import overlaps
        from imunity_bids.image.template import load_template
        from imunity_bids.image.white_stripe import to_model_scale, white_stripe

        image, data = load(self.inputs.in_file)
        mask = load(self.inputs.mask)[1] > 0
        template = load_template(self.inputs.template)
        core = template.white_core & mask
        stripe = white_stripe(data, mask, core if overlaps(mask, template) else None, seen_of(self.inputs, mask))
        scaled, clipped = to_model_scale(data, mask, stripe)
        info = asdict(stripe) | {"scale": stripe.scale, "agrees": stripe.agrees, "clipped": clipped}
        return {"out_file": save(folder / "striped.nii", scaled, image), "info": info}
