"""What a run has to do: which images, which references, what is done already."""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from imunity_bids.bids.inputs import Dataset, T1w, check_dataset, find_t1w
from imunity_bids.bids.links import derivative_folders, reference_folder
from imunity_bids.bids.outputs import sidecar_of
from imunity_bids.bids.products import HARMONIZED, Products
from imunity_bids.bids.scanners import seen_alike
from imunity_bids.bids.spaces import OutputSpace, spaces_besides
from imunity_bids.hashes import sha256
from imunity_bids.image.template import grid_of, load_template
from imunity_bids.models.card import find_bundle, read_card, reference_hashes
from imunity_bids.plan.parameters import parameters, parameters_hash, precision_serves, preprocessing
from imunity_bids.plan.requests import ReferenceRequest, mask_hashes, resolve_references
from imunity_bids.plan.site_curves import site_curves
from imunity_bids.settings import Settings

log = logging.getLogger(__name__)

LOOKS, SECONDS = 5, 2.0  # how often, and how far apart, marks that are away are looked for


@dataclass(frozen=True)
class Plan:
    """Images to work on, images that are done, references, and the pieces they share."""

    settings: Settings
    images: tuple[T1w, ...]
    done: tuple[T1w, ...]
    references: tuple[ReferenceRequest, ...]
    bundle: Path
    card: dict
    space: str  # label of the template for `space-`
    preprocessing: dict[str, Any]  # what decides the white-striped brain
    spaces: tuple[OutputSpace, ...] = ()  # where harmonized images are wanted besides
    space_hashes: dict[str, str] = field(default_factory=dict)  # of the templates of these spaces
    together: tuple[T1w, ...] = ()  # scans that share mask and affine with the others of their person
    site_curves: dict[str, ReferenceRequest] = field(default_factory=dict)  # mean contrast of the site, by stem

    def parameters(self, image: T1w, image_sha256: str, reference: ReferenceRequest) -> dict[str, Any]:
        """All that decides a harmonized image."""
        spaces = {str(space): self.space_hashes.get(space.template, "") for space in self.spaces}
        known = parameters(self.settings, self.preprocessing, self.card, image, image_sha256, reference, spaces)
        visits = [{"image": sha256(visit.path), "masks": mask_hashes(visit)} for visit in self.visits(image)]
        alike = [visit.stem for visit in self.alike(image)]
        site = self.site_curves.get(image.stem)
        return (
            known
            | ({"visits": visits} if visits else {})
            | ({"alike": alike} if alike else {})
            | ({"curve": {"sha256": site.sha256, "masks": site.masks}} if site else {})
        )

    def visits(self, image: T1w) -> tuple[T1w, ...]:
        """All scans, itself among them, with which it shares mask and affine; none without `--longitudinal`."""
        return tuple(visit for visit in self.together if visit.subject == image.subject)

    def alike(self, image: T1w) -> tuple[T1w, ...]:
        """Those of its `visits` that the same scanner made by the same protocol, without itself."""
        visits = {visit.stem: visit for visit in self.visits(image)}
        groups = seen_alike(self.settings.bids_dir, visits)
        own = next((group for group in groups if image.stem in group), [])
        return tuple(visits[stem] for stem in own if stem != image.stem)

    def sharing_field(self, image: T1w) -> tuple[T1w, ...]:
        """Those alike, unless fields are left as they are: all have what is left of their fields in common."""
        return () if self.settings.bias_correction == "none" else self.alike(image)

    def sharing_curve(self, image: T1w) -> tuple[T1w, ...]:
        """Those alike, unless a generator paints, which has no curve to share, or the whole site shares one."""
        curves = self.card["architecture"]["kind"] == "curves"
        return self.alike(image) if curves and image.stem not in self.site_curves else ()

    def made_of(self, image: T1w) -> tuple[ReferenceRequest, ...]:
        """Means of other scans that the image is made with: references, and that of its site."""
        site = self.site_curves.get(image.stem)
        return (*self.references, *((site,) if site else ()))

    def description(self, reference: ReferenceRequest) -> str:
        """Value of `desc-` for what is harmonized to this reference."""
        return HARMONIZED if reference == self.references[0] else f"{HARMONIZED}+{reference.label}"

    @property
    def descriptions(self) -> list[str]:
        """Of all references."""
        return [self.description(reference) for reference in self.references]

    def products(self, image: T1w) -> Products:
        """Paths of all that is made of an image."""
        return Products(self.settings.output_dir, image, self.space)

    def promised(self, image: T1w) -> list[Path]:
        """All files that must be there once an image is done."""
        return self.products(image).files(self.descriptions, self.spaces, self.settings.save_bias_field)

    def harmonized(self, image: T1w, reference: ReferenceRequest) -> Path:
        """Path of the harmonized image in template space."""
        return self.products(image).harmonized(self.description(reference))


def make_plan(settings: Settings) -> Plan:
    """Read the dataset and the output folder; changes nothing."""
    check_dataset(settings.bids_dir, settings.skip_bids_validation)
    bundle = find_bundle(settings.model)
    card = read_card(bundle / "bundle.json")
    template = load_template(settings.template)
    derivatives = derivative_folders(settings.derivatives, settings.bids_dir, settings.output_dir)
    dataset = Dataset(settings.bids_dir, settings.bids_database_dir, derivatives)
    images = find_t1w(dataset, settings.participants, settings.sessions, settings.bids_filter_file, settings.excluded)
    of_references = _dataset_of_references(settings) or dataset
    references = tuple(resolve_references(settings, reference_hashes(bundle, card), of_references))
    decided = preprocessing(settings, template)
    spaces = spaces_besides(settings.output_spaces, settings.template)
    hashes = _space_hashes(spaces)
    together = _together(settings, images)
    curves = site_curves(settings, card, dataset, images)
    plan = Plan(settings, (), (), references, bundle, card, template.label, decided, spaces, hashes, together, curves)
    done = tuple(image for image in images if not settings.force and is_done(plan, image))
    return replace(plan, images=tuple(image for image in images if image not in done), done=done)


def _space_hashes(spaces: tuple[OutputSpace, ...]) -> dict[str, str]:
    """Of the templates of the spaces by their names; a template or grid that is not there is told now."""
    templates = [space for space in spaces if not space.own]
    for space in templates:
        grid_of(space)
    return {space.template: load_template(space.template).sha256 for space in templates}


def _together(settings: Settings, images: list[T1w]) -> tuple[T1w, ...]:
    """The scans of all persons with two and more, where these are to share mask and affine."""
    if not settings.longitudinal:
        return ()
    visits = Counter(image.subject for image in images)
    together = tuple(image for image in images if visits[image.subject] > 1)
    if not together:
        log.warning("--longitudinal: no person has two scans among those that are selected")
    return together


def _dataset_of_references(settings: Settings) -> Dataset | None:
    """That of `--reference-dataset`. Masks in `--derivatives` are of BIDS_DIR's persons, so they are not for it."""
    named = reference_folder(settings)
    if named is None:
        return None
    name, folder = named
    check_dataset(folder, settings.skip_bids_validation, "--reference-dataset")
    return Dataset(folder, name=name)


def await_marks(plan: Plan, image: T1w) -> None:
    """Another run on the same participant takes the marks of an image away while it writes: give it some seconds."""
    products = plan.products(image)
    marks = [sidecar_of(products.harmonized(description)) for description in plan.descriptions]
    for _ in range(LOOKS):
        if all(mark.is_file() for mark in marks) or not products.template_t1w.is_file():
            return
        time.sleep(SECONDS)


def is_done(plan: Plan, image: T1w) -> bool:
    """Everything that is made of the image is there, made with the same parameters from the same file."""
    products = plan.products(image)
    if not all(
        path.is_file()
        for path in (image.path, *products.files(plan.descriptions, plan.spaces, plan.settings.save_bias_field))
    ):
        return False
    try:
        fingerprint = sha256(image.path)
        return all(_is_current(plan, image, fingerprint, r) for r in plan.references)
    except (OSError, ValueError, KeyError, TypeError):  # the scan or a sidecar cannot be read: make it again
        return False


def _is_current(plan: Plan, image: T1w, fingerprint: str, reference: ReferenceRequest) -> bool:
    sidecar = sidecar_of(plan.harmonized(image, reference))
    made = json.loads(sidecar.read_text(encoding="utf-8"))["Harmonization"]
    if not precision_serves(plan.settings, made["Precision"], made["Fallbacks"]):
        return False
    return made["ParametersHash"] == parameters_hash(plan.parameters(image, fingerprint, reference), made["Precision"])
