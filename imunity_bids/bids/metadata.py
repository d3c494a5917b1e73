"""What the sidecars of the raw dataset say of a scan, by the inheritance of BIDS."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from imunity_bids.bids.scan import T1w, raw_name

NO_AGENT = ("", "none", "no", "n/a")  # values of `ce-` and ContrastBolusIngredient, in lower case


class Metadata:
    """Sidecars of the T1w images of a dataset, each folder read once.

    A sidecar counts for an image if it lies in its folder or above, and all entities of its name are the image's; the
    nearer one wins (BIDS 1.11, inheritance principle). What cannot be read says nothing.
    """

    def __init__(self, bids_dir: Path):
        self.bids_dir = bids_dir
        self._read: dict[tuple[Path, str], list[tuple[set[str], dict[str, Any]]]] = {}

    def of(self, stem: str) -> dict[str, Any]:
        """All fields of an image, by the stem of its derivatives (`sub-X[_ses-Y]…`)."""
        known: dict[str, Any] = {}
        entities, suffix = raw_name(stem)
        for folder in _folders(self.bids_dir, stem):
            for named, content in self._sidecars(folder, suffix):
                if named <= entities:
                    known |= content
        return known

    def _sidecars(self, folder: Path, suffix: str) -> list[tuple[set[str], dict[str, Any]]]:
        """Entities and content of the sidecars of a folder, those for many images first."""
        if (folder, suffix) not in self._read:
            found = [(set(p.stem.split("_")[:-1]), _content(p)) for p in sorted(folder.glob(f"*{suffix}.json"))]
            self._read[folder, suffix] = sorted(found, key=lambda pair: len(pair[0]))
        return self._read[folder, suffix]


def about(image: T1w, fields: dict[str, Any]) -> dict[str, str]:
    """What kind of scan an image is, by its name and the `fields` of its sidecars; empty: not known."""
    agent = str(fields.get("ContrastBolusIngredient") or dict(image.entities).get("ce", ""))
    return {
        "Suffix": image.suffix,
        "AcquisitionType": str(fields.get("MRAcquisitionType") or ""),
        "ContrastAgent": "" if agent.strip().lower() in NO_AGENT else agent,
    }


def _folders(bids_dir: Path, stem: str) -> list[Path]:
    """From the dataset down to the images."""
    folders = [bids_dir]
    for entity in stem.split("_")[:2]:
        if entity.startswith(("sub-", "ses-")):
            folders.append(folders[-1] / entity)
    return [*folders, folders[-1] / "anat"]


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
