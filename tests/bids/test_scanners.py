"""The scanner of a scan, by the sidecars that count for it."""

from __future__ import annotations

import json
from pathlib import Path

from imunity_bids.bids.scanners import scanners, seen_alike


def test_the_nearer_sidecar_wins_and_other_entities_do_not_count(tmp_path: Path) -> None:
    for name, content in {
        "T1w.json": {"Manufacturer": "Siemens", "MagneticFieldStrength": 3, "StationName": "MR1"},
        "acq-fast_T1w.json": {"ManufacturersModelName": "Prisma"},
        "sub-1/ses-a/anat/sub-1_ses-a_acq-fast_T1w.json": {"MagneticFieldStrength": 1.5},
        "sub-2/anat/sub-2_T1w.json": {"Manufacturer": "GE", "ManufacturersModelName": ""},
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(json.dumps(content))
    (tmp_path / "sub-3" / "anat").mkdir(parents=True)
    (tmp_path / "sub-3" / "anat" / "sub-3_T1w.json").write_text("{broken")
    assert scanners(tmp_path, ["sub-1_ses-a_acq-fast", "sub-1_ses-b", "sub-2", "sub-3"]) == {
        "sub-1_ses-a_acq-fast": "Siemens Prisma 1.5 T",
        "sub-1_ses-b": "Siemens 3 T",
        "sub-2": "GE 3 T",
        "sub-3": "Siemens 3 T",
    }


def test_without_sidecars_there_is_no_name(tmp_path: Path) -> None:
    assert scanners(tmp_path / "nowhere", ["sub-1"]) == {"sub-1": ""}


def test_scans_of_one_scanner_and_protocol_are_grouped(tmp_path: Path) -> None:
    """A model's name is needed: two scans of which nothing is known may be of two scanners."""
    prisma = {"Manufacturer": "Siemens", "ManufacturersModelName": "Prisma", "EchoTime": 0.003}
    for session, content in {
        "1": prisma,
        "2": {**prisma, "StationName": "MR2"},
        "3": {**prisma, "EchoTime": 0.004},
        "4": {"Manufacturer": "Siemens"},
        "5": {"Manufacturer": "Siemens"},
    }.items():
        path = tmp_path / "sub-1" / f"ses-{session}" / "anat" / f"sub-1_ses-{session}_T1w.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(content))
    stems = [f"sub-1_ses-{session}" for session in "12345"]
    assert seen_alike(tmp_path, stems) == [stems[:2], *([stem] for stem in stems[2:])]
