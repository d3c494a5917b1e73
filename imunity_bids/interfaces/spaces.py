"""Steps that bring the harmonized brain to other spaces than the models'."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
from nipype.interfaces.base import File, TraitedSpec, isdefined, traits

from imunity_bids.interfaces.base import Inputs, Interface, load
from imunity_bids.interfaces.derivatives import Writer, WriterInputs, Written

if TYPE_CHECKING:
    from imunity_bids.bids.products import Products
    from imunity_bids.bids.spaces import OutputSpace


class _BridgeInputs(Inputs):
    template = traits.Str(mandatory=True, desc="of the models")
    other = traits.Str(mandatory=True, desc="template")
    seed = traits.Int(1, usedefault=True)


class _BridgeOutputs(TraitedSpec):
    out_file = File(desc="ITK transform, the models' template to the other")


class BridgeTemplates(Interface):
    """The models' template -> another one, affine: one way for all scans, also for those that share their space."""

    input_spec = _BridgeInputs
    output_spec = _BridgeOutputs

    def work(self, folder: Path) -> dict[str, Any]:
        """See `image.ants_bridge`."""
        from imunity_bids.image.ants_bridge import register
        from imunity_bids.image.template import load_template

        own, other = load_template(self.inputs.template), load_template(self.inputs.other)
        forward, _ = register(own.brain, other.brain, "affine", self.inputs.seed, folder)
        return {"out_file": str(forward)}


class _InSpaceInputs(WriterInputs):
    space = traits.Str(mandatory=True, desc="as --output-spaces takes it")
    bridge = File(exists=True, desc="ITK transform, the models' template to that of the space, where it is another one")
    native_t1w = File(exists=True, mandatory=True, desc="bias-corrected image")
    native_mask = File(exists=True, mandatory=True)
    template_t1w = File(exists=True, mandatory=True, desc="white-striped brain")
    harmonized = File(exists=True, mandatory=True)
    curve = File(desc="what made the brain what it is, but for noise and smoothness; none: a generator painted it")
    forward = File(exists=True, mandatory=True, desc="image to template")
    backward = File(exists=True, mandatory=True, desc="template to image")
    stripe = traits.Dict(mandatory=True)
    description = traits.Str(mandatory=True, desc="value of desc-")
    waited_for = traits.List(traits.Str, mandatory=True, desc="the preprocessed files stand already")


class WriteInSpace(Writer):
    """The harmonized brain on the scan's own voxels, or in a template's space with the mask and the transform there."""

    input_spec = _InSpaceInputs
    output_spec = Written

    def work(self, folder: Path) -> dict[str, Any]:
        """See `harmonize.elsewhere`."""
        from imunity_bids.bids.spaces import read_space

        space, products = read_space(self.inputs.space), self.place()
        if space.own:
            return {"done": [self._on_own_voxels(space, products)]}
        return {"done": self._in_template(space, products, folder)}

    def _on_own_voxels(self, space: OutputSpace, products: Products) -> str:
        grid, mask = load(self.inputs.native_mask)
        brain = self._brain(grid, None, Path(self.inputs.backward))
        return self._write(products.harmonized_in(space, self.inputs.description), brain * (mask > 0), grid, space)

    def _in_template(self, space: OutputSpace, products: Products, folder: Path) -> list[str]:
        from imunity_bids.bids.outputs import write_atomically
        from imunity_bids.image.spaces import chained, on_grid, write_identity
        from imunity_bids.image.template import grid_of

        given, grid = self.inputs, grid_of(space)
        to_models = Path(given.bridge) if isdefined(given.bridge) else write_identity(folder / "identity.mat")
        to_scan = chained(folder / "to_scan.mat", to_models, Path(given.forward))
        scan, inside = load(given.native_mask)
        mask = on_grid((inside > 0).astype(np.float32), scan, grid, to_scan, "linear") > 0.5
        brain = self._brain(grid, to_scan, to_models) * mask
        written = [self._write(products.mask_in(space), mask, grid, space)]
        if isdefined(given.bridge):
            write_atomically(products.way_to(space), lambda temporary: shutil.copyfile(to_scan, temporary))
        return [*written, self._write(products.harmonized_in(space, given.description), brain, grid, space)]

    def _brain(self, grid: nib.Nifti1Image, to_scan: Path | None, to_models: Path) -> np.ndarray:
        from imunity_bids.harmonize.elsewhere import Placed, elsewhere
        from imunity_bids.image.white_stripe import on_model_scale

        given = self.inputs
        scan, data = load(given.native_t1w)
        models, harmonized = load(given.harmonized)
        return elsewhere(
            grid,
            Placed(scan, to_scan),
            on_model_scale(data, given.stripe["zero"], given.stripe["scale"]),
            Placed(models, to_models),
            load(given.template_t1w)[1],
            harmonized,
            np.load(given.curve) if isdefined(given.curve) else None,
        )

    def _write(self, path: Path, data: np.ndarray, grid: nib.Nifti1Image, space: OutputSpace) -> str:
        """Image or mask, then its sidecar."""
        from imunity_bids.bids.outputs import SAME_AS, sidecar_of, write_json, write_nifti
        from imunity_bids.bids.sidecars import image_sidecar

        given, products, mask = self.inputs, self.place(), data.dtype == bool
        same = products.template_mask if mask else products.harmonized(given.description)
        made_of = [products.native_mask] if mask else [products.native_t1w, same]
        sources = [f"bids::{file.relative_to(products.out).as_posix()}" for file in made_of]
        mm = " x ".join(f"{size:.3g}" for size in grid.header.get_zooms()[:3])
        fields = image_sidecar(
            "brain" if mask else "harmonized", [*sources, *given.given], None if space.own else space.template,
            products.source.uri, f"{mm} mm",
        )  # fmt: skip
        fields |= {"Type": "Brain"} if mask else {"SkullStripped": True}
        fields[SAME_AS] = f"bids::{same.relative_to(products.out).as_posix()}"
        write_nifti(path, data.astype(np.uint8 if mask else np.float32), grid.affine, 1 if space.own else 4)
        write_json(sidecar_of(path), fields)
        return path.name
