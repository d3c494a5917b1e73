"""What `--reference` means: a label, a kind, and the images that make it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from imunity_bids.bids.inputs import T1w, find_t1w, participants_of_site
from imunity_bids.errors import InputMissing, Usage
from imunity_bids.hashes import digest, sha256
from imunity_bids.settings import Settings

MOST_OF_A_SITE = 10  # participants whose mean stands for a site: more cost time and change the mean little


@dataclass(frozen=True)
class ReferenceRequest:
    """One `--reference`, resolved. `images` is empty for a reference of the bundle."""

    label: str  # letters and digits, for `desc-harmonized+LABEL`
    kind: str  # bundle, file, participant, site
    images: tuple[T1w, ...] = ()
    sha256: str = field(default="")


def resolve_references(settings: Settings, bundled: dict[str, str]) -> list[ReferenceRequest]:
    """All references of a run, the first being the main one.

    Parameters
    ----------
    bundled
        Labels of the references in the bundle and the hash that stands for them.

    Raises
    ------
    Usage, InputMissing, NothingSelected
        A reference that does not exist, or two with the same label.
    """
    requests = [_resolve(spec, settings, bundled) for spec in settings.references]
    labels = [request.label for request in requests]
    if doubles := {label for label in labels if labels.count(label) > 1}:
        raise Usage(f"--reference: two references are called {', '.join(doubles)}")
    return requests


def _resolve(spec: str, settings: Settings, bundled: dict[str, str]) -> ReferenceRequest:
    if spec in bundled:
        return ReferenceRequest(spec, "bundle", sha256=bundled[spec])
    if spec.startswith("site:"):
        return _of_site(spec.removeprefix("site:"), settings)
    if match := re.fullmatch(r"sub-([A-Za-z0-9+]+)(?:_ses-([A-Za-z0-9+]+))?", spec):
        sessions = (match[2],) if match[2] else ()
        images = find_t1w(settings.bids_dir, (match[1],), sessions, settings.bids_filter_file)
        return _of_images(spec, "participant", images[:1])
    path = Path(spec)
    if not path.is_file():
        raise InputMissing(
            f"--reference {spec}: no such file; "
            f"give {', '.join(sorted(bundled))}, a T1w file, sub-XX[_ses-YY] or site:NAME"
        )
    image = T1w(path.absolute(), path.absolute().parent, (("sub", "reference"),))
    return _of_images(path.name.split(".nii")[0], "file", [image])


def _of_site(site: str, settings: Settings) -> ReferenceRequest:
    labels = participants_of_site(settings.bids_dir, settings.site_column, site)
    images = find_t1w(settings.bids_dir, filter_file=settings.bids_filter_file)
    first = {image.subject: image for image in reversed(images) if image.subject in labels}
    if not first:
        raise InputMissing(f"--reference site:{site}: none of its participants has a T1w image")
    return _of_images(site, "site", [first[subject] for subject in sorted(first)][:MOST_OF_A_SITE])


def _of_images(name: str, kind: str, images: list[T1w]) -> ReferenceRequest:
    hashes = [sha256(image.path) for image in images]
    whole = hashes[0] if len(hashes) == 1 else digest(hashes)
    return ReferenceRequest(re.sub(r"[^A-Za-z0-9]", "", name) or "reference", kind, tuple(images), whole)
