"""Find the T1w images of a BIDS dataset, and the participants of a site."""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
import zlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imunity_bids.errors import DataUnusable, InputMissing, NotBids, NothingSelected, Usage

if TYPE_CHECKING:
    from bids.layout import BIDSLayout

# Order of entities in a file name (BIDS 1.11, schema `rules/entities`), as far as an anatomical image can have them.
ENTITY_ORDER = (
    *("sub", "ses", "sample", "acq", "ce", "trc", "rec", "dir", "run", "mod", "echo", "flip", "inv", "mt", "part"),
    *("proc", "space", "chunk", "res", "label", "desc"),
)

MAGNITUDE = ("", "mag")  # values of `part-`; phase, real and imaginary images are no anatomy
_NOT_RAW = r"/(derivatives|sourcedata|code|stimuli|models|\.[^/]+)(/|$)"


@dataclass(frozen=True)
class T1w:
    """One raw image: its path and the entities of its name, in order."""

    path: Path
    bids_dir: Path
    entities: tuple[tuple[str, str], ...]
    twin: Path | None = None  # the same name with the other extension

    @classmethod
    def from_path(cls, path: Path, bids_dir: Path) -> T1w:
        """Read the entities off the file name: nothing that is in it can get lost."""
        pairs = [part.partition("-")[::2] for part in path.name.split(".")[0].split("_")[:-1]]
        return cls(path, bids_dir, tuple(pairs))

    @property
    def subject(self) -> str:
        """Label without `sub-`."""
        return dict(self.entities)["sub"]

    @property
    def part(self) -> str:
        """Label of `part-`; empty where there is none."""
        return dict(self.entities).get("part", "")

    @property
    def session(self) -> str | None:
        """Label without `ses-`."""
        return dict(self.entities).get("ses")

    @property
    def person(self) -> str:
        """`sub-X[_ses-Y]`: whose report and table the image belongs to."""
        return f"sub-{self.subject}" + (f"_ses-{self.session}" if self.session else "")

    @property
    def stem(self) -> str:
        """File name without suffix and extension: one name for one unit of work."""
        return "_".join(f"{key}-{value}" for key, value in self.entities)

    @property
    def uri(self) -> str:
        """BIDS URI in the derivative dataset."""
        return f"bids:raw:{self.path.relative_to(self.bids_dir).as_posix()}"


def check_dataset(bids_dir: Path, skip_validation: bool) -> None:
    """Raise unless `bids_dir` is, at first sight, a BIDS dataset.

    Raises
    ------
    InputMissing, NotBids
        No such folder; or no valid dataset_description.json (`--skip-bids-validation` lets that pass).
    """
    if not bids_dir.is_dir():
        raise InputMissing(f"BIDS_DIR {bids_dir} is not a folder")
    if not os.access(bids_dir, os.R_OK | os.X_OK):
        raise InputMissing(f"BIDS_DIR {bids_dir} cannot be read: permission denied")
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

    def __init__(self, bids_dir: Path, database: Path | None = None):
        self.bids_dir = bids_dir
        self.database = database

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
) -> list[T1w]:
    """All T1w magnitude images that the filters select, sorted; one for each name without extension.

    Raises
    ------
    NothingSelected
        None; the message says which labels exist.
    """
    dataset = dataset if isinstance(dataset, Dataset) else Dataset(dataset)
    query: dict[str, Any] = {"suffix": "T1w", "extension": [".nii", ".nii.gz"], "datatype": "anat"}
    if sessions:
        query["session"] = list(sessions)
    query |= _read_filter(filter_file)
    images = [T1w.from_path(Path(file.path), dataset.bids_dir) for file in dataset.layout.get(**query)]
    images = _twins_joined([image for image in images if image.part in MAGNITUDE])
    known = sorted({image.subject for image in images})
    if missing := sorted(set(participants) - set(known)):
        listed = ", ".join(known[:10]) + (" …" if len(known) > 10 else "")
        raise NothingSelected(f"no T1w image for participant {', '.join(missing)}; there are: {listed or 'none'}")
    images = [image for image in images if not participants or image.subject in participants]
    if not images:
        raise NothingSelected(f"no T1w image in {dataset.bids_dir} matches the filters ({query})")
    return sorted(images, key=lambda image: image.stem)


def _twins_joined(images: list[T1w]) -> list[T1w]:
    """`x_T1w.nii` beside `x_T1w.nii.gz` is one unit of work: the compressed one, which knows of the other."""
    by_stem: dict[str, T1w] = {}
    for image in sorted(images, key=lambda image: image.path.name, reverse=True):  # .nii.gz before .nii
        first = by_stem.setdefault(image.stem, image)
        if first is not image:
            by_stem[image.stem] = replace(first, twin=image.path)
    return list(by_stem.values())


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


def _read_filter(path: Path | None) -> dict[str, Any]:
    """fMRIPrep's filter file: {"t1w": {"acquisition": "mprage", …}}."""
    if path is None:
        return {}
    try:
        return json.loads(path.read_text()).get("t1w", {})
    except OSError as error:
        raise InputMissing(f"--bids-filter-file {path}: {error.strerror}") from error
    except (json.JSONDecodeError, AttributeError) as error:
        raise Usage(f"--bids-filter-file {path} is not a JSON object: {error}") from error


def participants_of_site(bids_dir: Path, column: str, site: str) -> list[str]:
    """Labels (without `sub-`) of the participants whose `column` in participants.tsv is `site`."""
    path = bids_dir / "participants.tsv"
    if not path.is_file():
        raise InputMissing(f"--reference site:{site} needs {path}")
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    if not rows or column not in rows[0]:
        raise Usage(f"{path} has no column {column}; name one with --site-column: {', '.join(rows[0] if rows else [])}")
    labels = [row["participant_id"].removeprefix("sub-") for row in rows if row[column] == site]
    if not labels:
        raise NothingSelected(f"no participant with {column} = {site}; there are: {sorted({r[column] for r in rows})}")
    return labels
