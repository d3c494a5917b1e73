"""Which scanner made a scan, by the sidecars of the raw dataset."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from imunity_bids.bids.metadata import Metadata

# StationName is left out: it changes with a computer, not with a scanner.
FIELDS = ("Manufacturer", "ManufacturersModelName", "MagneticFieldStrength")


def scanners(bids_dir: Path, stems: Iterable[str]) -> dict[str, str]:
    """Name of the scanner by stem of the derivatives of a T1w image; empty where no sidecar names one."""
    metadata, names = Metadata(bids_dir), {}
    for stem in stems:
        known = metadata.of(stem)
        names[stem] = " ".join(_text(field, known[field]) for field in FIELDS if known.get(field) not in (None, ""))
    return names


def _text(field: str, value: Any) -> str:
    if field == "MagneticFieldStrength" and isinstance(value, int | float):
        return f"{value:g} T"
    return str(value).strip()
