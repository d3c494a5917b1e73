"""Steps from the raw image to the white-striped brain in template space."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from nipype.interfaces.base import File, TraitedSpec, traits

from imunity_bids.interfaces.base import Inputs, Interface, load, save


class _ConformInputs(Inputs):
    in_file = File(exists=True, mandatory=True, desc="raw T1w image")


class _ConformOutputs(TraitedSpec):
    out_file = File(desc="RAS, 3D, finite, float32")
    info = traits.Dict(desc="what was mended")


class Conform(Interface):
    """Raw image -> conformed image."""

    input_spec = _ConformInputs
    output_spec = _ConformOutputs

    def work(self, folder: Path) -> dict[str, Any]:
        """See `image.conform`."""
        from imunity_bids.image.conform import conform, read_image

        image, fixes = conform(*read_image(Path(self.inputs.in_file)))
        out_file = folder / "conformed.nii"
        image.to_filename(out_file)
        return {"out_file": str(out_file), "info": {"fixes": fixes}}


class _BrainInputs(Inputs):
    in_file = File(exists=True, mandatory=True, desc="conformed image")
    method = traits.Enum("auto", "network", "ants", "synthstrip", "none", usedefault=True)
    border = traits.Float(0.0, usedefault=True, desc="shift of the mask's edge in mm")
    model = traits.Str("", desc="model folder instead of the shipped one")
    synthstrip_model = traits.Str("", desc="SynthStrip's weights")
    device = traits.Str("cpu", usedefault=True)
    use_gpu = traits.Bool(False, usedefault=True, desc="takes one of Nipype's GPU slots")


class _BrainOutputs(TraitedSpec):
    out_file = File(desc="mask, uint8")
    info = traits.Dict(desc="method and quality measures")


class ExtractBrain(Interface):
    """Conformed image -> brain mask."""

    input_spec = _BrainInputs
    output_spec = _BrainOutputs

    def work(self, folder: Path) -> dict[str, Any]:
        """See `image.extraction`."""
        from imunity_bids.image.extraction import extract_brain

        image, _ = load(self.inputs.in_file)
        brain = extract_brain(
            image,
            method=self.inputs.method,
            border_mm=self.inputs.border,
            model=self.inputs.model,
            synthstrip_model=self.inputs.synthstrip_model,
            device=self.inputs.device,
        )
        return {
            "out_file": save(folder / "mask.nii", brain.mask.astype(np.uint8), image),
            "info": {"method": brain.method, "measures": brain.measures()},
        }


class _BiasInputs(Inputs):
    in_file = File(exists=True, mandatory=True, desc="conformed image")
    mask = File(exists=True, mandatory=True)


class _BiasOutputs(TraitedSpec):
    out_file = File(desc="image without bias field, float32")


class CorrectBias(Interface):
    """N4."""

    input_spec = _BiasInputs
    output_spec = _BiasOutputs

    def work(self, folder: Path) -> dict[str, Any]:
        """See `image.ants_bridge`."""
        from imunity_bids.image.ants_bridge import bias_corrected

        image, _ = load(self.inputs.in_file)
        mask = load(self.inputs.mask)[1] > 0
        return {"out_file": save(folder / "n4.nii", bias_corrected(image, mask), image)}


class _RegisterInputs(Inputs):
    in_file = File(exists=True, mandatory=True, desc="bias-corrected image")
    mask = File(exists=True, mandatory=True)
    template = traits.Str(mandatory=True)
    kind = traits.Enum("affine", "rigid", usedefault=True)
    seed = traits.Int(1, usedefault=True)


class _RegisterOutputs(TraitedSpec):
    out_file = File(desc="brain in template space, float32, not yet masked")
    mask = File(desc="mask in template space, uint8")
    forward = File(desc="ITK transform, image to template")
    backward = File(desc="ITK transform, template to image")
    info = traits.Dict(desc="correlation with the template, overlap of the masks")


class Register(Interface):
    """Brain -> template space."""

    input_spec = _RegisterInputs
    output_spec = _RegisterOutputs

    def work(self, folder: Path) -> dict[str, Any]:
        """See `image.ants_bridge` and `image.template`."""
        from imunity_bids.image.ants_bridge import apply, register
        from imunity_bids.image.template import load_template
        from imunity_bids.metrics.similarity import correlation

        template = load_template(self.inputs.template)
        image, data = load(self.inputs.in_file)
        mask = load(self.inputs.mask)[1] > 0
        brain = type(image)(data * mask, image.affine)
        forward, backward = register(brain, template.brain, self.inputs.kind, self.inputs.seed, folder)
        moved = np.maximum(apply(data, image, template.brain, forward, "bSpline"), 0)
        inside = apply(mask.astype(np.float32), image, template.brain, forward, "linear") > 0.5
        both = inside & template.mask
        return {
            "out_file": save(folder / "template.nii", moved, template.brain),
            "mask": save(folder / "template_mask.nii", inside.astype(np.uint8), template.brain),
            "forward": str(forward),
            "backward": str(backward),
            "info": {
                "template_correlation": correlation(moved[both], np.asarray(template.brain.dataobj)[both]),
                "template_dice": float(2 * both.sum() / (inside.sum() + template.mask.sum())),
            },
        }


class _RefineInputs(Inputs):
    conformed = File(exists=True, mandatory=True)
    corrected = File(exists=True, mandatory=True, desc="by N4")
    mask = File(exists=True, mandatory=True)
    moved = File(exists=True, mandatory=True, desc="corrected image in template space")
    moved_mask = File(exists=True, mandatory=True)
    forward = File(exists=True, mandatory=True, desc="image to template")
    backward = File(exists=True, mandatory=True, desc="template to image")
    template = traits.Str(mandatory=True)


class _RefineOutputs(TraitedSpec):
    corrected = File(desc="image without bias field, float32")
    moved = File(desc="the same in template space, not yet masked")
    info = traits.Dict(desc="how the field was estimated")


class RefineBias(Interface):
    """N4 once more, with weights, where the template's white matter says that a field was left; else nothing."""

    input_spec = _RefineInputs
    output_spec = _RefineOutputs

    def work(self, folder: Path) -> dict[str, Any]:
        """See `image.bias_field`."""
        from imunity_bids.image.ants_bridge import apply
        from imunity_bids.image.bias_field import field_is_left, refined
        from imunity_bids.image.template import load_template

        given = self.inputs
        template = load_template(given.template)
        inside = load(given.moved_mask)[1] > 0
        if not field_is_left(load(given.moved)[1], inside, template):
            return {"corrected": given.corrected, "moved": given.moved, "info": {"method": "N4"}}
        image, _ = load(given.conformed)
        corrected = refined(image, load(given.mask)[1] > 0, template, Path(given.backward))
        moved = np.maximum(apply(corrected, image, template.brain, Path(given.forward), "bSpline"), 0)
        return {
            "corrected": save(folder / "refined.nii", corrected, image),
            "moved": save(folder / "template.nii", moved, template.brain),
            "info": {"method": "N4, weighted by the template's white matter"},
        }


class _StripeInputs(Inputs):
    in_file = File(exists=True, mandatory=True, desc="image in template space")
    mask = File(exists=True, mandatory=True)
    template = traits.Str(mandatory=True, desc="where white matter lies")


class _StripeOutputs(TraitedSpec):
    out_file = File(desc="brain in [0, 1], white matter at 0.7")
    info = traits.Dict(desc="peak, width, scale, share clipped, level of the white core")


class WhiteStripe(Interface):
    """Intensities -> the scale of the models."""

    input_spec = _StripeInputs
    output_spec = _StripeOutputs

    def work(self, folder: Path) -> dict[str, Any]:
        """See `image.white_stripe`."""
        from imunity_bids.image.template import load_template
        from imunity_bids.image.white_stripe import WHITE_MATTER, to_model_scale, white_stripe

        image, data = load(self.inputs.in_file)
        mask = load(self.inputs.mask)[1] > 0
        core = load_template(self.inputs.template).white_core & mask
        stripe = white_stripe(data, mask, core)
        scaled, clipped = to_model_scale(data, mask, stripe)
        level = float(np.median(scaled[core])) / WHITE_MATTER if core.any() else 0.0
        info = {**asdict(stripe), "scale": stripe.scale, "clipped": clipped, "white_core_level": level}
        return {"out_file": save(folder / "striped.nii", scaled, image), "info": info}
