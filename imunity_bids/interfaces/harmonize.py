"""Steps from the white-striped brain to the harmonized one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nipype.interfaces.base import File, InputMultiPath, TraitedSpec, traits

from imunity_bids.interfaces.base import Inputs, Interface, load, save, seen_of


class _EncodeInputs(Inputs):
    in_files = InputMultiPath(File(exists=True), mandatory=True, desc="white-striped brains")
    masks = InputMultiPath(File(exists=True), mandatory=True, desc="brain without lesions")
    label = traits.Str(mandatory=True)
    kind = traits.Str(mandatory=True)
    sha256 = traits.Str(mandatory=True)
    model = traits.Str(mandatory=True, desc="bundle folder")
    slices = traits.Int(mandatory=True)
    cache = traits.Str(mandatory=True, desc="where the reference is kept for other images and runs")


class _EncodeOutputs(TraitedSpec):
    out_file = File(desc="reference")


class EncodeReference(Interface):
    """Brains -> reference."""

    _always_run = True  # its result lies in the output folder, from which it may have been removed
    input_spec = _EncodeInputs
    output_spec = _EncodeOutputs

    def work(self, folder: Path) -> dict[str, Any]:
        """See `harmonize.references`."""
        from imunity_bids.bids.outputs import write_atomically
        from imunity_bids.harmonize.references import make_reference, save_reference
        from imunity_bids.models.bundle import load_bundle

        given = self.inputs
        brains = (
            (load(volume)[1], load(mask)[1] > 0) for volume, mask in zip(given.in_files, given.masks, strict=True)
        )
        bundle = load_bundle(Path(given.model))
        reference = make_reference(given.label, given.kind, given.sha256, brains, bundle, given.slices)
        write_atomically(Path(given.cache), lambda path: save_reference(reference, path))
        return {"out_file": given.cache}


class _HarmonizeInputs(Inputs):
    in_file = File(exists=True, mandatory=True, desc="white-striped brain")
    mask = File(exists=True, mandatory=True)
    seen = File(exists=True, desc="the mask without lesions, if it has any")
    others = InputMultiPath(File(exists=True), desc="white-striped brains of the person by the same scanner: one curve")
    others_seen = InputMultiPath(File(exists=True), desc="what counts of them")
    site_file = File(desc="mean contrast of the scan's site, in the place of its own")
    model = traits.Str(mandatory=True, desc="bundle folder")
    reference_file = File(desc="reference made from images")
    reference_label = traits.Str(desc="or one of the bundle's")
    device = traits.Str("cpu", usedefault=True)
    use_gpu = traits.Bool(False, usedefault=True, desc="takes one of Nipype's GPU slots")
    batch_size = traits.Int(0, usedefault=True, desc="slices at once; 0: what suits the device")
    precision = traits.Enum("float32", "float16", "bfloat16", usedefault=True)
    noise = traits.Enum("match", "keep", usedefault=True, desc="match: what is noisier than the reference is denoised")
    target_fwhm = traits.Str("none", usedefault=True, desc="none, reference, or mm: what is sharper is smoothed")


class _HarmonizeOutputs(TraitedSpec):
    out_file = File(desc="harmonized brain")
    uncertainty = File(desc="expected error")
    curve = File(desc="the curve that made the brain; none of a generator that paints")
    info = traits.Dict(desc="fidelity, reference, smoothing, compute")


class Harmonize(Interface):
    """White-striped brain -> harmonized brain. Its fidelity is that before it is smoothed on demand."""

    input_spec = _HarmonizeInputs
    output_spec = _HarmonizeOutputs

    def work(self, folder: Path) -> dict[str, Any]:
        """See `harmonize.inference`, `harmonize.noise`, `harmonize.smoothness` and `qc.fidelity`."""
        from dataclasses import replace

        import numpy as np
        from nipype.interfaces.base import isdefined

        from imunity_bids.harmonize.inference import Compute, harmonize
        from imunity_bids.harmonize.noise import Noise, match_noise, white_noise
        from imunity_bids.harmonize.references import load_reference
        from imunity_bids.harmonize.smoothness import OF_REFERENCE, OFF, smoothed_to
        from imunity_bids.models.bundle import load_bundle
        from imunity_bids.models.device import resolve_device
        from imunity_bids.qc.fidelity import fidelity

        given = self.inputs
        bundle = load_bundle(Path(given.model))
        if isdefined(given.reference_file):
            reference = load_reference(Path(given.reference_file))
        else:
            reference = bundle.references[given.reference_label]
        image, before = load(given.in_file)
        mask = load(given.mask)[1] > 0
        seen = seen_of(given, mask)
        compute = Compute(resolve_device(given.device), given.batch_size, given.precision)
        others = zip(given.others, given.others_seen, strict=True) if isdefined(given.others) else ()
        telling = [load(brain)[1] * (load(part)[1] > 0) for brain, part in others]
        site = load_reference(Path(given.site_file)) if isdefined(given.site_file) else None
        harmonized = harmonize(before, mask, bundle, reference, compute, seen, telling, site)
        if given.noise == "match":
            quiet, noise = match_noise(harmonized.image, mask, reference.noise, seen=seen)
            harmonized = replace(harmonized, image=quiet)
        else:
            noise = Noise.unchanged(white_noise(harmonized.image, seen), reference.noise)
        result, smoothing = harmonized.image, {}
        if given.target_fwhm != OFF:
            target = reference.fwhm if given.target_fwhm == OF_REFERENCE else float(given.target_fwhm)
            result, done = smoothed_to(harmonized.image, mask, target)
            smoothing = done.record()
        curve = {}
        if harmonized.curve is not None:
            np.save(folder / "curve.npy", harmonized.curve)
            curve = {"curve": str(folder / "curve.npy")}
        return {
            **curve,
            "out_file": save(folder / "harmonized.nii", result, image),
            "uncertainty": save(folder / "uncertainty.nii", harmonized.uncertainty, image),
            "info": {
                "fidelity": fidelity(before, harmonized, mask, reference, seen) | noise.measures(),
                "reference": {"label": reference.label, "type": reference.kind, "sha256": reference.sha256},
                "smoothing": smoothing,
                "quantiles": [round(value, 5) for value in reference.quantiles.tolist()],
                "compute": {
                    "device": compute.device,
                    "precision": compute.ran,
                    "fallbacks": compute.fallbacks,
                },
            },
        }
