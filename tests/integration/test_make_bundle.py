"""The command that makes what ships: a small bundle from real scans, from nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from imunity_bids.models.bundle import load_bundle
from imunity_bids.models.card import find_bundle

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_make_bundle_makes_one_like_the_one_that_ships(data: Path, tmp_path: Path) -> None:
    """Ten minutes: three persons of each site, a few steps. Its card has the fields of the shipped one's."""
    chosen = {
        "DATA": data,
        "BUNDLE": tmp_path / "work",
        "SHIP": tmp_path / "shipped",
        "PERSONS": "--participant-label 01 03 07",
        "TRAINING": "--steps 20 --every 20 --visits 40 --holdout 1 --jobs 2",
        "VENV": Path(sys.prefix),
        "BIN": Path(sys.executable).parent,
    }
    settings = [f"{name}={value}" for name, value in chosen.items()]
    subprocess.run(["make", "bundle", "-o", f"{sys.prefix}/test", *settings], cwd=ROOT, check=True)
    made_in = chosen["SHIP"] / "imunity"
    made, shipped = (json.loads((folder / "bundle.json").read_text()) for folder in (made_in, find_bundle("imunity")))
    assert set(made) == set(shipped)
    for part in ("training", "architecture", "sha256"):
        assert set(made[part]) == set(shipped[part]), part
    for field in ("name", "version", "license", "template", "default_reference", "architecture", "references"):
        assert made[field] == shipped[field], field
    assert made["training"]["brains"] == {"ds002748": 2, "ds000011": 2}
    assert len(made["training"]["held_out"]) == 2
    assert {axis["steps"] for axis in made["training"]["axes"].values()} == {20}
    assert "--steps 20" in made["training"]["command"] and "sub-4[1357]" in made["training"]["command"]
    bundle = load_bundle(made_in)
    assert bundle.references["default"].brains == 2
