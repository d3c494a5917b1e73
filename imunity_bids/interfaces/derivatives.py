"""Steps that write into the derivative dataset: atomically, the harmonized sidecar last."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from nipype.interfaces.base import File, TraitedSpec, traits

from imunity_bids.interfaces.base import Inputs, Interface, load

if TYPE_CHECKING:
    from imunity_bids.bids.products import Products
    from imunity_bids.qc.brain import Brain

log = logging.getLogger(__name__)


class WriterInputs(Inputs):
    """What all steps that write are told."""

    source = File(exists=True, mandatory=True, desc="raw T1w image")
    bids_dir = traits.Str(mandatory=True)
    output_dir = traits.Str(mandatory=True)
    template = traits.Str(mandatory=True)
    given = traits.List(traits.Str, usedefault=True, desc="BIDS URIs of masks that were made before")
    lesions = traits.List(traits.Str, usedefault=True, desc="those of lesions")
    denoise = traits.Enum("none", "nlm", usedefault=True, desc="what was done to the scan's noise before all else")


class _PreprocInputs(WriterInputs):
    native_mask = File(exists=True, mandatory=True)
    template_mask = File(exists=True, mandatory=True)
    template_seen = File(exists=True, mandatory=True, desc="brain mask without lesions")
    native_t1w = File(exists=True, mandatory=True, desc="bias-corrected image")
    template_t1w = File(exists=True, mandatory=True, desc="white-striped brain")
    forward = File(exists=True, mandatory=True, desc="image to template")
    backward = File(exists=True, mandatory=True, desc="template to image")
    field = File(desc="bias field, where it is to be written")
    brain = traits.Dict(mandatory=True, desc="what extraction says of its mask")
    bias = traits.Dict(mandatory=True, desc="how the field was found")
    stripe = traits.Dict(mandatory=True)
    descriptions = traits.List(traits.Str, mandatory=True, desc="desc- of the harmonized images to come")


class Written(TraitedSpec):
    """What they say."""

    done = traits.List(traits.Str, desc="names of what was written, for the steps that wait for it")


class Writer(Interface):
    """Knows where its image belongs. Runs again even if a kept work folder has its result: the files may be gone."""

    _always_run = True

    def place(self) -> Products:
        """Paths of the image's derivatives."""
        from imunity_bids.bids.inputs import T1w
        from imunity_bids.bids.products import Products
        from imunity_bids.bids.spaces import space_label

        source = T1w.from_path(Path(self.inputs.source), Path(self.inputs.bids_dir))
        return Products(Path(self.inputs.output_dir), source, space_label(self.inputs.template))


class WritePreprocessed(Writer):
    """Masks, bias-corrected and white-striped images, transforms. The marks of what was made before go first."""

    input_spec = _PreprocInputs
    output_spec = Written

    def work(self, folder: Path) -> dict[str, Any]:
        """Names: DESIGN, section 4."""
        from imunity_bids.bids.outputs import sidecar_of, write_atomically
        from imunity_bids.bids.sidecars import image_sidecar

        given = self.inputs
        products = self.place()
        products.unmark(given.descriptions)
        for other in products.others(given.descriptions):
            log.warning("%s was harmonized by an earlier run; this run replaces what it was made from", other.name)
        raw = products.source.uri
        written = []

        def write(path: Path, file: str, fields: dict[str, Any], kind: type, code: int) -> str:
            written.append(path.name)
            return write_image(path, file, kind, code, fields, products.out)

        fields = image_sidecar("brain", [raw, *given.given], None, raw) | {"Type": "Brain"}
        mask = write(products.native_mask, given.native_mask, fields, np.uint8, 1)
        fields = image_sidecar("preproc", [raw, mask, *given.given], None, raw)
        fields |= {"SkullStripped": given.brain["stripped"], "Denoising": _DENOISING[given.denoise]}
        fields |= {"BiasFieldCorrection": given.bias["method"]}
        preproc = write(products.native_t1w, given.native_t1w, fields, np.float32, 1)
        for path in (products.field, sidecar_of(products.field)):
            path.unlink(missing_ok=True)  # an earlier run's is that of another image
        if given.field:
            fields = image_sidecar("biasfield", [raw, mask, *given.given], None, raw)
            fields |= {"SkullStripped": False, "BiasFieldCorrection": given.bias["method"]}
            write(products.field, given.field, fields, np.float32, 1)
        fields = image_sidecar("brain", [mask, *given.given], given.template, raw) | {"Type": "Brain"}
        moved = write(products.template_mask, given.template_mask, fields, np.uint8, 4)
        self._write_lesion(products, written)
        fields = image_sidecar("preproc", [preproc, moved, *given.given], given.template, raw)
        fields |= {"SkullStripped": True, "WhiteStripe": _white_stripe(given.stripe)}
        write(products.template_t1w, given.template_t1w, fields, np.float32, 4)
        for path, file in ((products.forward, given.forward), (products.backward, given.backward)):
            write_atomically(path, lambda temporary, file=file: shutil.copyfile(file, temporary))
            written.append(path.name)
        return {"done": written}

    def _write_lesion(self, products: Products, written: list[str]) -> None:
        """Lesions in template space; those of an earlier run go."""
        from imunity_bids.bids.outputs import sidecar_of, write_nifti
        from imunity_bids.bids.sidecars import image_sidecar

        given, path = self.inputs, products.template_lesion
        for old in (path, sidecar_of(path)):
            old.unlink(missing_ok=True)
        if not given.lesions:
            return
        image, mask = load(given.template_mask)
        lesion = (mask > 0) & (load(given.template_seen)[1] == 0)
        write_nifti(path, lesion.astype(np.uint8), image.affine, 4)
        fields = image_sidecar("lesion", given.lesions, given.template, products.source.uri)
        _write_sidecar(path, fields | {"Type": "Lesion"})
        written.append(path.name)


class _HarmonizedInputs(WriterInputs):
    template_mask = File(exists=True, mandatory=True)
    template_seen = File(exists=True, mandatory=True, desc="brain mask without lesions")
    template_t1w = File(exists=True, mandatory=True, desc="white-striped brain")
    harmonized = File(exists=True, mandatory=True)
    uncertainty = File(exists=True, mandatory=True)
    description = traits.Str(mandatory=True, desc="value of desc-")
    scan = traits.Dict(mandatory=True, desc="what its name and sidecars say of it")
    conform = traits.Dict(mandatory=True)
    brain = traits.Dict(mandatory=True)
    bias = traits.Dict(mandatory=True)
    registration = traits.Dict(mandatory=True)
    stripe = traits.Dict(mandatory=True)
    info = traits.Dict(mandatory=True, desc="of harmonization")
    provenance = traits.Dict(mandatory=True, desc="bundle, seed, scans of the reference")
    parameters = traits.Dict(mandatory=True, desc="all that decides the image, but the precision that ran")
    waited_for = traits.List(traits.Str, mandatory=True, desc="the preprocessed files stand already")


class WriteHarmonized(Writer):
    """Uncertainty, features, harmonized image, sidecar: the last one is the mark that the image is done."""

    input_spec = _HarmonizedInputs
    output_spec = Written

    def work(self, folder: Path) -> dict[str, Any]:
        """Names: DESIGN, section 4."""
        from imunity_bids.bids.outputs import sidecar_of, write_json
        from imunity_bids.bids.sidecars import image_sidecar
        from imunity_bids.qc.features import image_features
        from imunity_bids.qc.image_quality import image_quality

        given = self.inputs
        products = self.place()
        brain = self._brain()
        raw = products.source.uri
        sources = [f"bids::{products.template_t1w.relative_to(products.out).as_posix()}"]
        scans = [*given.provenance["ReferenceScans"], *given.provenance.get("SiteCurve", {}).get("Scans", [])]
        sources += [scan["Scan"] for scan in scans if scan["Scan"].startswith("bids:")]
        sources += [uri for scan in scans for uri in scan.get("Masks", [])]
        sources = list(dict.fromkeys([*sources, *given.given]))
        sidecar_of(path := products.harmonized(given.description)).unlink(missing_ok=True)

        fields = image_sidecar("uncertainty", sources, given.template, raw) | {"SkullStripped": True}
        write_image(products.uncertainty(given.description), given.uncertainty, np.float32, 4, fields, products.out)
        features = image_features(brain, np.array(given.info["quantiles"]))
        write_json(products.features(given.description), features)
        fields = image_sidecar("harmonized", sources, given.template, raw) | {"SkullStripped": True}
        write_image(path, given.harmonized, np.float32, 4, fields | self._record(image_quality(brain)), products.out)
        return {"done": [path.name]}

    def _brain(self) -> Brain | None:
        """Before and after, for what is measured on both."""
        from imunity_bids.qc.brain import brain_of

        given = self.inputs
        mask, seen = (load(file)[1] > 0 for file in (given.template_mask, given.template_seen))
        return brain_of(load(given.template_t1w)[1], load(given.harmonized)[1], mask, seen)

    def _record(self, quality: dict[str, float]) -> dict[str, Any]:
        """What the sidecar tells of how the image came about and how good it is."""
        from imunity_bids.bids.sidecars import software
        from imunity_bids.plan.parameters import parameters_hash
        from imunity_bids.qc.measures import findings
        from imunity_bids.qc.scan_kind import scan_findings
        from imunity_bids.qc.verdict import verdict

        given = self.inputs
        compute, provenance = given.info["compute"], dict(given.provenance)
        scans = provenance.pop("ReferenceScans")
        numbers = {
            **given.brain["measures"],
            **given.registration,
            "white_core_level": given.stripe["core_level"],
            "clipped": given.stripe["clipped"],
            "white_matter_peak": given.stripe["peak"],
            "white_matter_width": given.stripe["width"],
            **given.info["fidelity"],
            **given.bias["measures"],
            **quality,
        }
        scan = {**given.scan, "VoxelSizeMM": given.conform["voxel_mm"]}
        overall = verdict([*scan_findings(scan), *findings(numbers)])
        return {
            "Harmonization": {
                "Method": _METHODS[provenance["Bundle"]["Architecture"]["kind"]],
                **provenance,
                "ParametersHash": parameters_hash(given.parameters, compute["precision"]),
                "Reference": given.info["reference"] | ({"scans": scans} if scans else {}),
                "ReferenceQuantiles": given.info["quantiles"],
                "Fusion": "median",
                "WhiteStripe": _white_stripe(given.stripe),
                "Software": software(),
                "Device": compute["device"],
                "Precision": compute["precision"],
                "Fallbacks": compute["fallbacks"],
            },
            "Scan": scan,
            "HeaderFixes": given.conform["fixes"],
            "Denoising": _DENOISING[given.denoise],
            "BrainExtraction": given.brain["method"],
            **({"SmoothingFWHM": given.info["smoothing"]} if given.info["smoothing"] else {}),
            **({"Lesions": {"Masks": given.lesions, "VolumeML": given.brain["lesion_ml"]}} if given.lesions else {}),
            "BiasFieldCorrection": given.bias["method"],
            "QualityControl": {"verdict": overall.verdict, "reason": overall.reason, **numbers},
        }


_DENOISING = {"none": "none", "nlm": "adaptive non-local means for Rician noise (ANTs' DenoiseImage)"}
_METHODS = {
    "curves": "ImUnity's encoders with decoders of one intensity curve for the whole brain, and of the error",
    "paper": "ImUnity as published (Cackowski 2023)",
}


def write_image(path: Path, data_file: str, kind: type, code: int, fields: dict[str, Any], out: Path) -> str:
    """Image, then sidecar; returns the BIDS URI."""
    from imunity_bids.bids.outputs import write_nifti

    image, data = load(data_file)
    write_nifti(path, data.astype(kind), image.affine, code)
    _write_sidecar(path, fields)
    return f"bids::{path.relative_to(out).as_posix()}"


def _write_sidecar(path: Path, fields: dict[str, Any]) -> None:
    from imunity_bids.bids.outputs import sidecar_of, write_json

    write_json(sidecar_of(path), fields)


def _white_stripe(stripe: dict[str, Any]) -> dict[str, Any]:
    return {
        "Peak": stripe["peak"],
        "PeakFrom": "the template's white matter" if stripe["from_template"] else "the last peak of the histogram",
        "HistogramAgrees": stripe["agrees"],
        "Width": stripe["width"],
        "Scale": stripe["scale"],
        "PeakValue": 0.7,
    }
