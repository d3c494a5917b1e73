"""What is known of a scan by its name and its sidecars."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from imunity_bids.bids.metadata import Metadata, about
from imunity_bids.bids.scan import T1w


def of(name: str, root: Path) -> T1w:
    return T1w.from_path(root / "sub-1" / "anat" / name, root)


@pytest.mark.parametrize(
    ("name", "fields", "agent"),
    [
        ("sub-1_T1w.nii.gz", {}, ""),
        ("sub-1_ce-gad_T1w.nii.gz", {}, "gad"),
        ("sub-1_T1w.nii.gz", {"ContrastBolusIngredient": "GADOLINIUM"}, "GADOLINIUM"),
        ("sub-1_ce-gad_T1w.nii.gz", {"ContrastBolusIngredient": "NONE"}, ""),
        ("sub-1_ce-none_T1w.nii.gz", {}, ""),
    ],
)
def test_a_contrast_agent_by_name_or_sidecar(tmp_path: Path, name: str, fields: dict, agent: str) -> None:
    assert about(of(name, tmp_path), fields)["ContrastAgent"] == agent


def test_a_uniform_image_has_its_own_sidecars(tmp_path: Path) -> None:
    (tmp_path / "T1w.json").write_text(json.dumps({"MRAcquisitionType": "2D"}))
    (tmp_path / "rec-a_UNIT1.json").write_text(json.dumps({"MRAcquisitionType": "3D"}))
    plain, uniform = of("sub-1_T1w.nii.gz", tmp_path), of("sub-1_rec-a_UNIT1.nii.gz", tmp_path)
    known = {image.suffix: about(image, Metadata(tmp_path).of(image.stem)) for image in (plain, uniform)}
    assert known["T1w"]["AcquisitionType"] == "2D"
    assert known["UNIT1"] == {"Suffix": "UNIT1", "AcquisitionType": "3D", "ContrastAgent": ""}
