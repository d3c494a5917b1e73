"""Find the T1w images of a BIDS dataset."""

from __future__ import annotations

import gzip
import json
import logging
import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from imunity_bids.bids.filters import read_filter
from imunity_bids.bids.given import with_given
from imunity_bids.bids.scan import RAW, UNIFORM, T1w
from imunity_bids.errors import DataUnusable, InputMissing, NotBids, NothingSelected, Usage

if TYPE_CHECKING:
    from bids.layout import BIDSLayout

log = logging.getLogger(__name__)

MAGNITUDE = ("", "mag")  # values of `part-`; phase, real and imaginary images are no anatomy
_NOT_RAW = r"/(derivatives|sourcedata|code|stimuli|models|\.[^/]+)(/|$)"


def check_dataset(bids_dir: Path, skip_validation: bool, option: str = "BIDS_DIR") -> None:
    """Raise unless `bids_dir`, which the user gave as `option`, is at first sight a BIDS dataset.

    Raises
    ------
    InputMissing, NotBids
        No such folder; or no valid dataset_description.json (`--skip-bids-validation` lets that pass).
    """
    if not bids_dir.is_dir():
        raise InputMissing(f"{option} {bids_dir} is not a folder")
    if not os.access(bids_dir, os.R_OK | os.X_OK):
        raise InputMissing(f"{option} {bids_dir} cannot be read: permission denied")
    description = bids_dir / "dataset_description.json"
    if skip_validation:
        return
    if not description.is_file():
        raise NotBids(
            f"{bids_dir} is not a BIDS dataset: no dataset_description.json (--skip-bids-validation ignores that)"
        )
    try:
        content = json.loads(description.read_text(encoding="utf-8"))
        named = isinstance(content, dict) and "Name" in content and "BIDSVersion" in content
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise NotBids(f"{description} is not valid JSON: {error}") from error
    if not named:
        raise NotBids(f"{description} lacks Name or BIDSVersion")


class Dataset:
    """A BIDS dataset, indexed by pybids when it is first asked for something."""

    def __init__(
        self,
        bids_dir: Path,
        database: Path | None = None,
        derivatives: Mapping[str, Path] = MappingProxyType({}),
        name: str = RAW,
    ):
        self.bids_dir = bids_dir
        self.name = name  # in BIDS URIs
        self.database = database
        self.derivatives = derivatives  # folders that masks are taken from, by their names

    @cached_property
    def layout(self) -> BIDSLayout:
        """Without validation and metadata: names are all that is needed."""
        from bids.layout import BIDSLayout, BIDSLayoutIndexer

        indexer = BIDSLayoutIndexer(validate=False, index_metadata=False, ignore=[re.compile(_NOT_RAW)])
        return BIDSLayout(self.bids_dir, validate=False, indexer=indexer, database_path=self.database)


def find_t1w(
    dataset: Dataset | Path,
    participants: tuple[str, ...] = (),
    sessions: tuple[str, ...] = (),
    filter_file: Path | None = None,
    excluded: tuple[str, ...] = (),
) -> list[T1w]:
    """All T1w magnitude images that the filters select, sorted; one for each name without extension.

    Participants that are `excluded` are left out, also where `participants` names them. Where a person has no T1w image
    in a session, MP2RAGE's uniform image (UNIT1) stands for it; a filter file that names suffixes decides by itself.

    Raises
    ------
    NothingSelected
        None; the message says which labels exist.
    Usage
        The filter file is none, or contradicts `sessions`; two images would have one name.
    """
    dataset = dataset if isinstance(dataset, Dataset) else Dataset(dataset)
    query: dict[str, Any] = {"suffix": ["T1w", UNIFORM], "extension": [".nii", ".nii.gz"], "datatype": "anat"}
    chosen = read_filter(filter_file)
    if sessions and "session" in chosen:
        raise Usage(f"--session-label and the session in --bids-filter-file {filter_file}: give one of them")
    if sessions:
        query["session"] = list(sessions)
    query |= chosen
    if unknown := sorted(set(chosen) - set(dataset.layout.get_entities())):
        names = ", ".join(dataset.layout.get_entities())
        raise Usage(f"--bids-filter-file {filter_file}: no entity is called {', '.join(unknown)}; pybids knows {names}")
    images = [T1w.from_path(Path(file.path), dataset.bids_dir, dataset.name) for file in dataset.layout.get(**query)]
    images = _twins_joined([image for image in images if image.part in MAGNITUDE])
    images = images if "suffix" in chosen else _uniform_where_needed(images)
    known = sorted({image.subject for image in images})
    if missing := sorted(set(participants) - set(known)):
        listed = ", ".join(known[:10]) + (" …" if len(known) > 10 else "")
        raise NothingSelected(f"no T1w image for participant {', '.join(missing)}; there are: {listed or 'none'}")
    if strangers := sorted(set(excluded) - set(known)):
        log.warning("--exclude-participant-label %s: they have no T1w image anyway", " ".join(strangers))
    images = [image for image in images if not participants or image.subject in participants]
    if not images:
        raise NothingSelected(f"no T1w image in {dataset.bids_dir} matches the filters ({query})")
    images = [image for image in images if image.subject not in excluded]
    if not images:
        raise NothingSelected("--exclude-participant-label leaves no participant with a T1w image")
    return [with_given(image, dataset.derivatives) for image in sorted(images, key=lambda image: image.stem)]


def _twins_joined(images: list[T1w]) -> list[T1w]:
    """`x_T1w.nii` beside `x_T1w.nii.gz` is one unit of work: the compressed one, which knows of the other."""
    by_stem: dict[str, T1w] = {}
    for image in sorted(images, key=lambda image: image.path.name, reverse=True):  # .nii.gz before .nii
        first = by_stem.setdefault(image.stem, image)
        if first.suffix != image.suffix:
            both = f"{first.path.name} and {image.path.name}"
            raise Usage(f"the derivatives of {both} would have one name; leave one out")
        if first is not image:
            by_stem[image.stem] = replace(first, twin=image.path)
    return list(by_stem.values())


def _uniform_where_needed(images: list[T1w]) -> list[T1w]:
    """All T1w images, and the uniform ones of persons (and sessions) who have none."""
    have = {image.person for image in images if image.suffix == "T1w"}
    stand_ins = [image for image in images if image.suffix == UNIFORM and image.person not in have]
    for image in stand_ins:
        log.info("%s stands for a T1w image, of which %s has none", image.path.name, image.person)
    return [image for image in images if image.suffix == "T1w"] + stand_ins


def check_twin(image: T1w) -> None:
    """Raise where a scan lies there compressed and not, and the two differ.

    Raises
    ------
    DataUnusable
        BIDS allows one of them; which is meant cannot be known.
    """
    if image.twin is None:
        return
    try:
        with gzip.open(image.path) as compressed, open(image.twin, "rb") as plain:
            while (block := compressed.read(2**20)) == plain.read(2**20):
                if not block:
                    return
    except (EOFError, zlib.error, OSError) as error:
        raise DataUnusable(f"{image.path.name} and {image.twin.name} cannot be compared: {error}") from error
    raise DataUnusable(f"{image.path.name} and {image.twin.name} lie side by side and differ; remove one of them")
