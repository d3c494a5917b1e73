"""What `--reference` means: a label, a kind, and the images that make it."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imunity_bids.bids.inputs import Dataset, T1w, check_twin, find_t1w
from imunity_bids.bids.sites import first_of_site, scans_of_site
from imunity_bids.errors import InputMissing, Usage
from imunity_bids.hashes import digest, sha256
from imunity_bids.image.conform import check_readable
from imunity_bids.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReferenceRequest:
    """One `--reference`, resolved. `images` is empty for a reference of the bundle."""

    label: str  # letters and digits, for `desc-harmonized+LABEL`
    kind: str  # bundle, file, participant, site
    sha256: str  # of the bundle's tensors, of the image, or of the hashes of several images
    images: tuple[T1w, ...] = ()
    image_sha256: tuple[str, ...] = ()
    masks: tuple[dict[str, list[str]], ...] = ()  # of each image: hashes of the masks that were made before

    @property
    def name(self) -> str:
        """For nodes and files: labels of two may be the same."""
        return f"{self.label}_{self.sha256[:6]}"

    @property
    def scans(self) -> list[dict[str, Any]]:
        """The scans that it is made from, and their masks that were made before, for the sidecar."""
        uris = [image.path.as_uri() if self.kind == "file" else image.uri for image in self.images]
        masks = [[given.uri for given in image.given] for image in self.images]
        return [
            {"Scan": uri, "SHA256": sha} | ({"Masks": known} if known else {})
            for uri, sha, known in zip(uris, self.image_sha256, masks, strict=True)
        ]


def resolve_references(settings: Settings, bundled: dict[str, str], dataset: Dataset) -> list[ReferenceRequest]:
    """All references of a run, the first being the main one.

    Parameters
    ----------
    bundled
        Labels of the references in the bundle and their hashes.
    dataset
        The one that participants and sites are looked up in.

    Raises
    ------
    Usage, InputMissing, NothingSelected
        A reference that does not exist, two with the same label, or one whose smoothness is wanted and not known; a
        dataset of references that none is looked up in.
    """
    requests = [_resolve(spec, settings, bundled, dataset) for spec in settings.references]
    if settings.reference_dataset and not any(request.kind in ("participant", "site") for request in requests):
        raise Usage("--reference-dataset: nothing is looked up in it; add --reference sub-XX[_ses-YY] or site:NAME")
    labels = [request.label for request in requests]
    if doubles := {label for label in labels if labels.count(label) > 1}:
        raise Usage(f"--reference: two references are called {', '.join(doubles)}")
    from_bundle = ", ".join(request.label for request in requests if request.kind == "bundle")
    if settings.target_fwhm == "reference" and from_bundle:
        unknown = f"the smoothness of the bundle's {from_bundle} is unknown"
        raise Usage(f"--target-fwhm reference: {unknown}; give mm, or scans to --reference")
    return requests


def _resolve(spec: str, settings: Settings, bundled: dict[str, str], dataset: Dataset) -> ReferenceRequest:
    if spec in bundled:
        return ReferenceRequest(spec, "bundle", bundled[spec])
    if spec.startswith("site:"):
        return _of_site(spec.removeprefix("site:"), settings, dataset)
    if match := re.fullmatch(r"sub-([A-Za-z0-9+]+)(?:_ses-([A-Za-z0-9+]+))?", spec):
        sessions = (match[2],) if match[2] else ()
        images = find_t1w(dataset, (match[1],), sessions, _filter_of(settings))
        return of_images(spec, "participant", images[:1])
    path = Path(spec)
    if not path.is_file():
        raise InputMissing(
            f"--reference {spec}: no such file; "
            f"give {', '.join(sorted(bundled))}, a T1w file, sub-XX[_ses-YY] or site:NAME"
        )
    label = _label(path.name.split(".nii")[0])
    image = T1w(path.absolute(), path.absolute().parent, (("sub", f"reference{label}"),))
    return of_images(label, "file", [image])


def _of_site(site: str, settings: Settings, dataset: Dataset) -> ReferenceRequest:
    """The first `MOST_OF_A_SITE` participants of the site, by label; the sidecar names them."""
    excluded = () if settings.reference_dataset else settings.excluded
    images = find_t1w(dataset, filter_file=_filter_of(settings), excluded=excluded)
    images = scans_of_site(images, dataset.bids_dir, settings.site_column, site)
    chosen, persons = first_of_site(images), len({image.subject for image in images})
    if len(chosen) < persons:
        log.info("--reference site:%s: the first %d of %d participants", site, len(chosen), persons)
    return of_images(site, "site", chosen)


def _filter_of(settings: Settings) -> Path | None:
    """The filter file tells scans of BIDS_DIR apart; another dataset has names of its own."""
    return None if settings.reference_dataset else settings.bids_filter_file


def of_images(name: str, kind: str, images: list[T1w]) -> ReferenceRequest:
    """The mean contrast of scans that can be read."""
    for image in images:
        check_readable(image.path)
        check_twin(image)
    hashes = tuple(sha256(image.path) for image in images)
    whole = hashes[0] if len(hashes) == 1 else digest(hashes)
    return ReferenceRequest(_label(name), kind, whole, tuple(images), hashes, tuple(map(mask_hashes, images)))


def mask_hashes(image: T1w) -> dict[str, list[str]]:
    """SHA256 of the masks of an image that were made before; two empty lists where there are none."""
    brains = [image.brain_mask] if image.brain_mask else []
    return {
        kind: [sha256(given.path) for given in masks] for kind, masks in (("brain", brains), ("lesion", image.lesions))
    }


def _label(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]", "", name) or "reference"
