"""Masks that somebody made before: in the dataset itself (lesions) and in the folders of `--derivatives`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from imunity_bids.bids.scan import UNIFORM, Given, T1w

OF_THE_SCAN = ("", "T1w", "orig")  # values of `space-`: the scan's own
LESION = "lesion"
NOT_OF_THE_IMAGE = {"space", "res", "label", "desc"}  # entities by which a mask may differ from its image


def with_given(image: T1w, derivatives: Mapping[str, Path]) -> T1w:
    """The image with its brain mask, the first that is found, and all its lesion masks, the dataset's own first."""
    brains = [given for name, folder in derivatives.items() for given in _brain_masks(image, name, folder)]
    everywhere = {image.dataset: image.bids_dir, **derivatives}
    lesions = [given for name, folder in everywhere.items() for given in _lesion_masks(image, name, folder)]
    return replace(image, brain_mask=brains[0] if brains else None, lesions=tuple(lesions))


def _brain_masks(image: T1w, name: str, folder: Path) -> Iterator[Given]:
    for path, entities, suffix in _files(image, folder):
        if suffix == "mask" and entities.get("desc") == "brain" and "label" not in entities:
            yield _given(path, name, folder)


def _lesion_masks(image: T1w, name: str, folder: Path) -> Iterator[Given]:
    for path, entities, suffix in _files(image, folder):
        if suffix in ("mask", "roi") and entities.get("label") == LESION:
            yield _given(path, name, folder)


def _files(image: T1w, folder: Path) -> Iterator[tuple[Path, dict[str, str], str]]:
    """Images in the folder that are of this image, in its own space: path, entities, suffix.

    The entities are those of the image. fMRIPrep's older pages write `sub-01_T1w_label-lesion_roi`: that is taken, too.
    """
    anat = folder / f"sub-{image.subject}" / (f"ses-{image.session}" if image.session else "") / "anat"
    for path in sorted(
        anat.glob(f"sub-{image.subject}_*.nii*"), key=lambda path: (path.name.split(".")[0], -len(path.name))
    ):
        *parts, suffix = path.name.split(".")[0].split("_")
        entities = dict(part.partition("-")[::2] for part in parts if part not in ("T1w", UNIFORM))
        own = {key: value for key, value in entities.items() if key not in NOT_OF_THE_IMAGE}
        if own == dict(image.entities) and entities.get("space", "") in OF_THE_SCAN:
            yield path, entities, suffix


def _given(path: Path, name: str, folder: Path) -> Given:
    return Given(path, f"bids:{name}:{path.relative_to(folder).as_posix()}")
