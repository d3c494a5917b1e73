"""Everything that is made of one image: where it lies, whether it is all there, and the mark that it is done.

The mark is the sidecar of the harmonized image. It is written last and taken away before anything else is replaced.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from imunity_bids.bids.given import LESION
from imunity_bids.bids.inputs import T1w
from imunity_bids.bids.outputs import brought_elsewhere, derivative, sidecar_of, transform_path
from imunity_bids.bids.spaces import OutputSpace
from imunity_bids.bids.tables import FEATURES

HARMONIZED, UNCERTAINTY = "harmonized", "uncertainty"


@dataclass(frozen=True)
class Products:
    """Paths of the derivatives of `source`. A `description` is a value of `desc-`: harmonized, harmonized+REFERENCE."""

    out: Path
    source: T1w
    space: str  # label of the template

    def _native(self, suffix: str, desc: str) -> Path:
        return derivative(self.out, self.source, suffix, ".nii.gz", desc=desc)

    def _in_template(self, suffix: str, desc: str) -> Path:
        return derivative(self.out, self.source, suffix, ".nii.gz", space=self.space, res="1", desc=desc)

    @property
    def native_mask(self) -> Path:
        """Brain mask on the scan's voxels."""
        return self._native("mask", "brain")

    @property
    def native_t1w(self) -> Path:
        """Without bias field, on the scan's voxels."""
        return self._native("T1w", "preproc")

    @property
    def field(self) -> Path:
        """The bias field that was taken out: raw = field × native_t1w."""
        return self._native("T1w", "biasfield")

    @property
    def template_mask(self) -> Path:
        """Brain mask in template space."""
        return self._in_template("mask", "brain")

    @property
    def template_lesion(self) -> Path:
        """Lesions in template space."""
        return derivative(self.out, self.source, "mask", ".nii.gz", space=self.space, res="1", label=LESION)

    @property
    def template_t1w(self) -> Path:
        """White-striped brain in template space."""
        return self._in_template("T1w", "preproc")

    @property
    def forward(self) -> Path:
        """ITK transform, image to template."""
        return transform_path(self.out, self.source, "T1w", self.space)

    @property
    def backward(self) -> Path:
        """ITK transform, template to image."""
        return transform_path(self.out, self.source, self.space, "T1w")

    def harmonized(self, description: str) -> Path:
        """Harmonized brain in template space; its sidecar is the mark."""
        return self._in_template("T1w", description)

    def harmonized_in(self, space: OutputSpace, description: str) -> Path:
        """The same in another space."""
        return derivative(self.out, self.source, "T1w", ".nii.gz", **space.entities, desc=description)

    def mask_in(self, space: OutputSpace) -> Path:
        """Brain mask in another template's space."""
        return derivative(self.out, self.source, "mask", ".nii.gz", **space.entities, desc="brain")

    def way_to(self, space: OutputSpace) -> Path:
        """ITK transform, image to another template; that of the models for other grids of it."""
        return transform_path(self.out, self.source, "T1w", space.label)

    def uncertainty(self, description: str) -> Path:
        """Expected error of that harmonized brain."""
        return self._in_template("T1w", UNCERTAINTY + description.removeprefix(HARMONIZED))

    def features(self, description: str) -> Path:
        """What the group level needs to know of that harmonized brain, a JSON file."""
        return derivative(self.out, self.source, FEATURES, ".json", space=self.space, res="1", desc=description)

    def files(self, descriptions: Sequence[str], spaces: Sequence[OutputSpace] = (), field: bool = False) -> list[Path]:
        """All that must be there once the image is done; `spaces`, `field`: what the user asked for besides."""
        images = [self.native_mask, self.native_t1w, self.template_mask, self.template_t1w]
        images += [self.field] if field else []
        images += [self.template_lesion] if self.source.lesions else []
        for description in descriptions:
            images += [self.harmonized(description), self.uncertainty(description)]
            images += [self.harmonized_in(space, description) for space in spaces]
        features = [self.features(description) for description in descriptions]
        templates = [space for space in spaces if not space.own]
        images += [self.mask_in(space) for space in templates]
        ways = [self.forward, self.backward, *(self.way_to(space) for space in templates)]
        return [*images, *map(sidecar_of, images), *features, *dict.fromkeys(ways)]

    def others(self, descriptions: list[str]) -> list[Path]:
        """Harmonized images of this source in this space that have another description."""
        pattern = self.harmonized(f"{HARMONIZED}*")
        own = {self.harmonized(description) for description in descriptions}
        return sorted(path for path in pattern.parent.glob(pattern.name) if path not in own)

    def unmark(self, descriptions: Sequence[str]) -> None:
        """Take the marks away, and what was made in other spaces, since it may not be made again."""
        for description in descriptions:
            sidecar_of(self.harmonized(description)).unlink(missing_ok=True)
            self._forget(self._native("T1w", description))
            for path in self._in_any_template("T1w", description):
                if brought_elsewhere(path):
                    self._forget(path)
        for path in self._in_any_template("mask", "brain"):
            if brought_elsewhere(path):
                self._forget(path)
                label = path.name.partition("_space-")[2].partition("_")[0]
                if label != self.space:  # other grids of the models' template share its transform
                    transform_path(self.out, self.source, "T1w", label).unlink(missing_ok=True)

    def _in_any_template(self, suffix: str, desc: str) -> list[Path]:
        pattern = derivative(self.out, self.source, suffix, ".nii.gz", space="*", res="*", desc=desc)
        return sorted(pattern.parent.glob(pattern.name))

    @staticmethod
    def _forget(image: Path) -> None:
        for path in (image, sidecar_of(image)):
            path.unlink(missing_ok=True)
