"""Which scanner made a scan, by the sidecars of the raw dataset and the inheritance of BIDS."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

# StationName is left out: it changes with a computer, not with a scanner.
FIELDS = ("Manufacturer", "ManufacturersModelName", "MagneticFieldStrength")


def scanners(bids_dir: Path, stems: Iterable[str]) -> dict[str, str]:
    """Name of the scanner by stem of a T1w image (`sub-X[_ses-Y]…`); empty where no sidecar names one.

    A sidecar counts for an image if it lies in its folder or above, and all entities of its name are the image's; the
    nearer one wins (BIDS 1.11, inheritance principle). What cannot be read says nothing.
    """

    @cache
    def sidecars(folder: Path) -> list[tuple[set[str], dict[str, Any]]]:
        """Entities and content of the T1w sidecars of a folder, those for many images first."""
        found = [(set(path.stem.split("_")[:-1]), _content(path)) for path in sorted(folder.glob("*T1w.json"))]
        return sorted(found, key=lambda pair: len(pair[0]))

    names = {}
    for stem in stems:
        known: dict[str, Any] = {}
        for folder in _folders(bids_dir, stem):
            for entities, content in sidecars(folder):
                if entities <= set(stem.split("_")):
                    known |= content
        names[stem] = " ".join(_text(field, known[field]) for field in FIELDS if known.get(field) not in (None, ""))
    return names


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


def _text(field: str, value: Any) -> str:
    if field == "MagneticFieldStrength" and isinstance(value, int | float):
        return f"{value:g} T"
    return str(value).strip()
