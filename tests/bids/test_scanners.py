"""The scanner of a scan, by the sidecars that count for it."""

from __future__ import annotations

import json
from pathlib import Path

from imunity_bids.bids.scanners import scanners


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
