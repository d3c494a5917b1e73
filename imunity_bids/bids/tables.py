"""`*_scans.tsv` with quality measures, made from the sidecars on disk: repeating it changes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imunity_bids.bids.outputs import brought_elsewhere, remove_strays, sidecar_of, write_json, write_text

FEATURES = "features"  # suffix of the file with what the group level needs to know of an image


def write_scans_table(anat: Path, prefix: str, columns: Mapping[str, str]) -> None:
    """`<prefix>_scans.tsv` above an anat folder: its harmonized images, a row each, and the meaning of the columns.

    Parameters
    ----------
    columns
        Names of quality measures and their meaning.
    """
    rows = read_quality(anat)
    if not rows:
        return
    lines = ["\t".join(["filename", *columns])]
    lines += ["\t".join([f"anat/{name}", *(_cell(row.get(c)) for c in columns)]) for name, row in rows.items()]
    remove_strays(anat.parent)
    write_text(anat.parent / f"{prefix}_scans.tsv", "\n".join(lines) + "\n")
    described: dict[str, dict[str, Any]] = {"filename": {"Description": "Harmonized image"}}
    described |= {name: {"Description": text} for name, text in columns.items()}
    described["verdict"]["Levels"] = {"ok": "can be trusted", "check": "look at the report", "failed": "do not use"}
    description = "Quality measures of harmonized images"
    write_json(anat.parent / f"{prefix}_scans.json", {"Description": description, **described})


def read_quality(anat: Path) -> dict[str, dict[str, Any]]:
    """`QualityControl` of every harmonized image in template space of a folder, by image name."""
    rows = {}
    for image in sorted(anat.glob("*_space-*_desc-harmonized*_T1w.nii.gz")):
        sidecar = sidecar_of(image)
        if sidecar.is_file() and not brought_elsewhere(image):
            rows[image.name] = json.loads(sidecar.read_text(encoding="utf-8"))["QualityControl"]
    return rows


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "n/a"
    return f"{value:.5g}" if isinstance(value, float) else str(value)
