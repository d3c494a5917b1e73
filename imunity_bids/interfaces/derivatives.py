"""Steps that write into the derivative dataset: atomically, the harmonized sidecar last."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from nipype.interfaces.base import File, TraitedSpec, traits

from imunity_bids.interfaces.base import Inputs, Interface, load

if TYPE_CHECKING:
    from imunity_bids.bids.inputs import T1w
    from imunity_bids.image.template import Template


class _Common(Inputs):
    source = File(exists=True, mandatory=True, desc="raw T1w image")
    bids_dir = traits.Str(mandatory=True)
    output_dir = traits.Str(mandatory=True)
    template = traits.Str(mandatory=True)
    native_image = File(exists=True, mandatory=True, desc="conformed image")
    native_mask = File(exists=True, mandatory=True)
    template_mask = File(exists=True, mandatory=True)
    backward = File(exists=True, mandatory=True, desc="template to image")


class _PreprocInputs(_Common):
    native_t1w = File(exists=True, mandatory=True, desc="bias-corrected image")
    template_t1w = File(exists=True, mandatory=True, desc="white-striped brain")
    forward = File(exists=True, mandatory=True, desc="image to template")
    brain = traits.Dict(mandatory=True, desc="what extraction says of its mask")
    stripe = traits.Dict(mandatory=True)


class _Written(TraitedSpec):
    done = traits.List(traits.Str, desc="names of what was written, for the steps that wait for it")


class _Writer(Interface):
    """Knows where its image belongs."""

    def place(self) -> tuple[T1w, Path, Template, dict[str, str]]:
        """Source, output folder, template, and the entities of template space."""
        from imunity_bids.bids.inputs import T1w
        from imunity_bids.image.template import load_template

        template = load_template(self.inputs.template)
        source = T1w.from_path(Path(self.inputs.source), Path(self.inputs.bids_dir))
        return source, Path(self.inputs.output_dir), template, {"space": template.label, "res": "1"}


class WritePreprocessed(_Writer):
    """Masks, bias-corrected and white-striped images, transforms."""

    input_spec = _PreprocInputs
    output_spec = _Written

    def work(self, folder: Path) -> dict[str, Any]:
        """Names: DESIGN, section 4."""
        from imunity_bids.bids.outputs import derivative, transform_path, write_atomically
        from imunity_bids.bids.sidecars import image_sidecar

        given = self.inputs
        source, out, template, space = self.place()
        written = []

        def write(data_file: str, suffix: str, entities: dict[str, str], fields: dict[str, Any], kind: type) -> str:
            path = derivative(out, source, suffix, ".nii.gz", **entities)
            written.append(path.name)
            return _write_image(path, data_file, kind, 4 if "space" in entities else 1, fields, out)

        fields = image_sidecar("brain", [source.uri], None, source.uri) | {"Type": "Brain"}
        mask = write(given.native_mask, "mask", {"desc": "brain"}, fields, np.uint8)
        fields = image_sidecar("preproc", [source.uri, mask], None, source.uri)
        fields["SkullStripped"] = given.brain["method"] == "none"
        preproc = write(given.native_t1w, "T1w", {"desc": "preproc"}, fields, np.float32)
        fields = image_sidecar("brain", [mask], given.template, source.uri) | {"Type": "Brain"}
        moved = write(given.template_mask, "mask", {**space, "desc": "brain"}, fields, np.uint8)
        fields = image_sidecar("preproc", [preproc, moved], given.template, source.uri)
        fields |= {"SkullStripped": True, "WhiteStripe": _white_stripe(given.stripe)}
        write(given.template_t1w, "T1w", {**space, "desc": "preproc"}, fields, np.float32)
        for file, start, end in ((given.forward, "T1w", template.label), (given.backward, template.label, "T1w")):
            path = write_atomically(transform_path(out, source, start, end), lambda p, f=file: shutil.copyfile(f, p))
            written.append(path.name)
        return {"done": written}


class _HarmonizedInputs(_Common):
    harmonized = File(exists=True, mandatory=True)
    uncertainty = File(exists=True, mandatory=True)
    description = traits.Str(mandatory=True, desc="value of desc-")
    native_space = traits.Bool(False, usedefault=True, desc="also write on the native grid")
    conform = traits.Dict(mandatory=True)
    brain = traits.Dict(mandatory=True)
    registration = traits.Dict(mandatory=True)
    stripe = traits.Dict(mandatory=True)
    info = traits.Dict(mandatory=True, desc="of harmonization")
    provenance = traits.Dict(mandatory=True, desc="bundle, parameters hash, seed")
    waited_for = traits.List(traits.Str, mandatory=True, desc="the preprocessed files stand already")


class WriteHarmonized(_Writer):
    """Uncertainty, harmonized image, sidecar: in this order, the sidecar being the mark that the image is done."""

    input_spec = _HarmonizedInputs
    output_spec = _Written

    def work(self, folder: Path) -> dict[str, Any]:
        """Names: DESIGN, section 4."""
        from imunity_bids.bids.outputs import derivative, write_nifti
        from imunity_bids.bids.sidecars import image_sidecar, software
        from imunity_bids.image.ants_bridge import apply
        from imunity_bids.qc.measures import findings
        from imunity_bids.qc.verdict import verdict

        given = self.inputs
        source, out, template, space = self.place()
        striped = derivative(out, source, "T1w", ".nii.gz", **space, desc="preproc")
        sources = [f"bids::{striped.relative_to(out).as_posix()}"]
        stripped = {"SkullStripped": True}

        uncertainty_name = given.description.replace("harmonized", "uncertainty")
        uncertainty = derivative(out, source, "T1w", ".nii.gz", **space, desc=uncertainty_name)
        fields = image_sidecar("uncertainty", sources, given.template, source.uri) | stripped
        _write_image(uncertainty, given.uncertainty, np.float32, 4, fields, out)

        numbers = {
            **given.info["fidelity"],
            **given.registration,
            "clipped": given.stripe["clipped"],
            "white_matter_peak": given.stripe["peak"],
            "white_matter_width": given.stripe["width"],
            **given.brain["measures"],
        }
        found = verdict(findings(numbers))
        fields = image_sidecar("harmonized", sources, given.template, source.uri) | stripped
        fields["Harmonization"] = {
            "Method": "ImUnity",
            **given.provenance,
            "Reference": given.info["reference"],
            "ReferenceQuantiles": given.info["quantiles"],
            "Fusion": "median",
            "WhiteStripe": _white_stripe(given.stripe),
            "Software": software(),
            "Device": given.info["compute"]["device"],
            "Precision": given.info["compute"]["precision"],
            "Fallbacks": given.info["compute"]["fallbacks"],
        }
        fields["HeaderFixes"] = given.conform["fixes"]
        fields["BrainExtraction"] = given.brain["method"]
        fields["QualityControl"] = {"verdict": found.verdict, "reason": found.reason, **numbers}

        path = derivative(out, source, "T1w", ".nii.gz", **space, desc=given.description)
        if given.native_space:
            native, _ = load(given.native_image)
            inside = load(given.native_mask)[1] > 0
            back = apply(load(given.harmonized)[1], template.brain, native, Path(given.backward), "bSpline")
            native_path = derivative(out, source, "T1w", ".nii.gz", desc=given.description)
            whole = [f"bids::{path.relative_to(out).as_posix()}"]
            native_fields = image_sidecar("harmonized", whole, None, source.uri) | stripped
            write_nifti(native_path, (np.clip(back, 0, 1) * inside).astype(np.float32), native.affine, 1)
            _write_sidecar(native_path, native_fields)
        _write_image(path, given.harmonized, np.float32, 4, fields, out)
        return {"done": [path.name]}


def _write_image(path: Path, data_file: str, kind: type, code: int, fields: dict[str, Any], out: Path) -> str:
    """Image, then sidecar; returns the BIDS URI."""
    from imunity_bids.bids.outputs import write_nifti

    image, data = load(data_file)
    write_nifti(path, data.astype(kind), image.affine, code)
    _write_sidecar(path, fields)
    return f"bids::{path.relative_to(out).as_posix()}"


def _write_sidecar(path: Path, fields: dict[str, Any]) -> None:
    from imunity_bids.bids.outputs import sidecar_of, write_json

    write_json(sidecar_of(path), fields)


def _white_stripe(stripe: dict[str, float]) -> dict[str, float]:
    return {"Peak": stripe["peak"], "Width": stripe["width"], "Scale": stripe["scale"], "PeakValue": 0.7}
