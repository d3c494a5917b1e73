"""Find the T1w images of a BIDS dataset, and the participants of a site."""

from __future__ import annotations

import csv
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imunity_bids.errors import InputMissing, NotBids, NothingSelected, Usage

# Order of entities in a file name (BIDS 1.11, schema `rules/entities`), as far as an anatomical image can have them.
ENTITY_ORDER = (
    *("sub", "ses", "sample", "acq", "ce", "trc", "rec", "dir", "run", "mod", "echo", "flip", "inv", "mt", "part"),
    *("proc", "space", "chunk", "res", "label", "desc"),
)

_NOT_RAW = r"/(derivatives|sourcedata|code|stimuli|models|\.[^/]+)(/|$)"


@dataclass(frozen=True)
class T1w:
    """One raw image: its path and the entities of its name, in order."""

    path: Path
    bids_dir: Path
    entities: tuple[tuple[str, str], ...]

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


def find_t1w(
    bids_dir: Path,
    participants: tuple[str, ...] = (),
    sessions: tuple[str, ...] = (),
    filter_file: Path | None = None,
    database: Path | None = None,
) -> list[T1w]:
    """All T1w images that the filters select, sorted.

    Raises
    ------
    NothingSelected
        None; the message says which labels exist.
    """
    from bids.layout import BIDSLayout, BIDSLayoutIndexer

    indexer = BIDSLayoutIndexer(validate=False, index_metadata=False, ignore=[re.compile(_NOT_RAW)])
    layout = BIDSLayout(bids_dir, validate=False, indexer=indexer, database_path=database)
    query: dict[str, Any] = {"suffix": "T1w", "extension": [".nii", ".nii.gz"], "datatype": "anat"}
    if sessions:
        query["session"] = list(sessions)
    query |= _read_filter(filter_file)
    known = layout.get_subjects(**query)
    if missing := sorted(set(participants) - set(known)):
        listed = ", ".join(known[:10]) + (" …" if len(known) > 10 else "")
        raise NothingSelected(f"no T1w image for participant {', '.join(missing)}; there are: {listed or 'none'}")
    if participants:
        query["subject"] = list(participants)
    images = [T1w.from_path(Path(file.path), bids_dir) for file in layout.get(**query)]
    if not images:
        raise NothingSelected(f"no T1w image in {bids_dir} matches the filters ({query})")
    return sorted(images, key=lambda image: image.stem)


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
    found = [row["participant_id"].removeprefix("sub-") for row in rows if row[column] == site]
    if not found:
        raise NothingSelected(f"no participant with {column} = {site}; there are: {sorted({r[column] for r in rows})}")
    return found
