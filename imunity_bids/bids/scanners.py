"""Which scanner made a scan, by the sidecars of the raw dataset."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from imunity_bids.bids.metadata import Metadata

# StationName is left out: it changes with a computer, not with a scanner.
FIELDS = ("Manufacturer", "ManufacturersModelName", "MagneticFieldStrength")
PROTOCOL = ("RepetitionTime", "EchoTime", "InversionTime", "FlipAngle", "DeviceSerialNumber", "ProtocolName")


def scanners(bids_dir: Path, stems: Iterable[str]) -> dict[str, str]:
    """Name of the scanner by stem of the derivatives of a T1w image; empty where no sidecar names one."""
    metadata, names = Metadata(bids_dir), {}
    for stem in stems:
        known = metadata.of(stem)
        names[stem] = " ".join(_text(field, known[field]) for field in FIELDS if known.get(field) not in (None, ""))
    return names


def seen_alike(bids_dir: Path, stems: Iterable[str]) -> list[list[str]]:
    """Stems in groups of one scanner and protocol; one whose sidecars name no scanner is alone, for all one knows."""
    metadata, groups = Metadata(bids_dir), defaultdict(list)
    for stem in stems:
        known = metadata.of(stem)
        named = known.get(FIELDS[1]) not in (None, "")
        groups[str([known.get(field) for field in (*FIELDS, *PROTOCOL)]) if named else stem].append(stem)
    return list(groups.values())


def _text(field: str, value: Any) -> str:
    if field == "MagneticFieldStrength" and isinstance(value, int | float):
        return f"{value:g} T"
    return str(value).strip()
