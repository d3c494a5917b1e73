"""Skeletons of traveling-subject datasets, laid out as they are published."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from imunity_bids.bids.visits import SIDECAR, scanner_names
from imunity_bids.errors import DataUnusable, Usage

ON_HARMONY = [
    "sub-03286_ses-NOT1ACH001",
    "sub-03286_ses-NOT1ACH002",
    "sub-03286_ses-OXF1PRI001",
    "sub-10975_ses-CAR1PRI001",
]
SRPBS = ["sub-01_ses-siteATT", "sub-01_ses-siteUTO", "sub-02_ses-siteUTO"]
OASIS = ["sub-OAS30001_ses-d0129_run-01", "sub-OAS30001_ses-d0757_run-01"]


def test_the_session_names_the_scanner_and_counts_visits(tmp_path: Path) -> None:
    assert list(scanner_names(tmp_path, ON_HARMONY).values()) == ["NOT1ACH", "NOT1ACH", "OXF1PRI", "CAR1PRI"]
    assert set(scanner_names(tmp_path, SRPBS).values()) == {"siteATT", "siteUTO"}
    assert set(scanner_names(tmp_path, ["sub-1_ses-01", "sub-1_ses-02"]).values()) == {"01", "02"}
    assert set(scanner_names(tmp_path, ["sub-1_ses-A1", "sub-1_ses-A2"]).values()) == {"A1", "A2"}


def test_days_name_no_scanner_but_sidecars_do(tmp_path: Path) -> None:
    with pytest.raises(DataUnusable, match=r"by session all images are of one scanner, d; say where.*sidecar"):
        scanner_names(tmp_path, OASIS)
    for stem, model in zip(OASIS, ("TrioTim", "Biograph_mMR"), strict=True):
        anat = tmp_path / stem.split("_")[0] / stem.split("_")[1] / "anat"
        anat.mkdir(parents=True)
        about = {"Manufacturer": "Siemens", "ManufacturersModelName": model, "MagneticFieldStrength": 3}
        (anat / f"{stem}_T1w.json").write_text(json.dumps(about))
    found = scanner_names(tmp_path, OASIS, SIDECAR)
    assert list(found.values()) == ["Siemens TrioTim 3 T", "Siemens Biograph_mMR 3 T"]


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ("sub-01_sessions.tsv", "session_id\tscanner\nses-siteATT\tVerio\nses-siteUTO\tMR750w\n"),
        ("ses-siteATT/sub-01_ses-siteATT_scans.tsv", "filename\tscanner\nanat/sub-01_ses-siteATT_T1w.nii.gz\tVerio\n"),
    ],
)
def test_a_column_of_sessions_or_scans(table: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "sub-01" / table
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    if "scans" in table:
        with pytest.raises(DataUnusable, match="1 images have no scanner by scanner, sub-01_ses-siteUTO for one"):
            scanner_names(tmp_path, SRPBS[:2], "scanner")
        return
    assert scanner_names(tmp_path, SRPBS[:2], "scanner") == dict(zip(SRPBS, ("Verio", "MR750w"), strict=False))
    with pytest.raises(Usage, match=r"--scanner-from coil: no sessions\.tsv or scans\.tsv"):
        scanner_names(tmp_path, SRPBS[:2], "coil")
