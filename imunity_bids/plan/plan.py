"""What a run has to do: which images, which references, what is done already."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from imunity_bids.bids.inputs import T1w, check_dataset, find_t1w
from imunity_bids.bids.outputs import derivative, sidecar_of
from imunity_bids.hashes import digest, sha256
from imunity_bids.image.template import load_template
from imunity_bids.models.card import find_bundle, read_card
from imunity_bids.plan.parameters import preprocessing
from imunity_bids.plan.requests import ReferenceRequest, resolve_references
from imunity_bids.settings import Settings


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

    def parameters(self, image_sha256: str, reference: ReferenceRequest) -> str:
        """Hash of all that decides a harmonized image."""
        return digest(
            {
                "image": image_sha256,
                "preprocessing": preprocessing(self.settings),
                "weights": self.card["sha256"],
                "reference": reference.sha256,
                "slices": self.settings.reference_slices,
                "precision": self.settings.precision,
                "spaces": sorted(self.settings.output_spaces),
            }
        )

    def description(self, reference: ReferenceRequest) -> str:
        """Value of `desc-` for what is harmonized to this reference."""
        return "harmonized" if reference == self.references[0] else f"harmonized+{reference.label}"

    def harmonized(self, image: T1w, reference: ReferenceRequest) -> Path:
        """Path of the harmonized image in template space."""
        desc = self.description(reference)
        folder = self.settings.output_dir
        return derivative(folder, image, "T1w", ".nii.gz", space=self.space, res="1", desc=desc)


def make_plan(settings: Settings) -> Plan:
    """Read the dataset and the output folder; changes nothing."""
    check_dataset(settings.bids_dir, settings.skip_bids_validation)
    bundle = find_bundle(settings.model)
    card = read_card(bundle / "bundle.json")
    template = load_template(settings.template)
    references = resolve_references(settings, dict.fromkeys(card["references"], card["sha256"]["references"]))
    images = find_t1w(
        settings.bids_dir,
        settings.participants,
        settings.sessions,
        settings.bids_filter_file,
        settings.bids_database_dir,
    )
    empty = Plan(settings, (), (), tuple(references), bundle, card, template.label)
    done = tuple(image for image in images if not settings.force and is_done(empty, image))
    todo = tuple(image for image in images if image not in done)
    return Plan(settings, todo, done, tuple(references), bundle, card, template.label)


def is_done(plan: Plan, image: T1w) -> bool:
    """All harmonized images are there, made with the same parameters from the same file."""
    sidecars = [sidecar_of(plan.harmonized(image, reference)) for reference in plan.references]
    if not all(path.is_file() for path in (image.path, *sidecars)):
        return False
    fingerprint = sha256(image.path)
    for sidecar, reference in zip(sidecars, plan.references, strict=True):
        found = json.loads(sidecar.read_text(encoding="utf-8"))
        if found["Harmonization"]["ParametersHash"] != plan.parameters(fingerprint, reference):
            return False
    return True
