from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from safetensors.numpy import save_file

from imunity_bids.bids.outputs import TEMPORARY, write_atomically
from imunity_bids.bids.sidecars import descriptions, image_sidecar, write_dataset_files
from imunity_bids.bids.tables import write_scans_table
from imunity_bids.qc.measures import COLUMNS


def test_labels_of_other_programs_are_left_to_them(tmp_path: Path) -> None:
    """A foreign file with a plus in its label ended the run in a KeyError."""
    anat = tmp_path / "sub-1" / "anat"
    anat.mkdir(parents=True)
    for label in ("harmonized+B", "smooth+8mm"):
        (anat / f"sub-1_space-X_desc-{label}_T1w.nii.gz").touch()
    texts = descriptions(tmp_path)
    assert texts["harmonized+B"].endswith("(reference B)")
    assert "smooth+8mm" not in texts
    write_dataset_files(tmp_path, {"raw": tmp_path.as_uri()}, "methods")
    assert "desc-harmonized+B\t" in (tmp_path / "descriptions.tsv").read_text()


def test_only_images_in_template_space_have_a_resolution() -> None:
    assert image_sidecar("brain", [], None, "bids:raw:x")["SpatialReference"] == "bids:raw:x"
    assert "Resolution" not in image_sidecar("brain", [], None, "bids:raw:x")
    assert image_sidecar("harmonized+B", [], "MNI", "bids:raw:x")["SpatialReference"] == "MNI"
    assert "Resolution" in image_sidecar("harmonized+B", [], "MNI", "bids:raw:x")


@pytest.mark.parametrize("mask", [0o022, 0o007])
def test_files_have_the_mode_that_the_umask_says(tmp_path: Path, mask: int) -> None:
    """safetensors makes its files private; a second user of a shared folder could not read them."""
    import numpy as np

    before = os.umask(mask)
    try:
        path = write_atomically(tmp_path / "x.safetensors", lambda p: save_file({"a": np.zeros(3)}, p))
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask


def test_what_a_killed_run_left_beside_a_table_goes(tmp_path: Path) -> None:
    anat = tmp_path / "sub-1" / "anat"
    anat.mkdir(parents=True)
    stray = tmp_path / "sub-1" / f"{TEMPORARY}abc.tsv"
    stray.write_text("half")
    stem = anat / "sub-1_space-X_res-1_desc-harmonized_T1w"
    stem.with_suffix(".nii.gz").touch()
    stem.with_suffix(".json").write_text(json.dumps({"QualityControl": {"verdict": "ok", "clipped": 0.25}}))
    write_scans_table(anat, "sub-1", COLUMNS)
    assert not stray.exists()
    header, row = (line.split("\t") for line in (tmp_path / "sub-1" / "sub-1_scans.tsv").read_text().splitlines())
    assert dict(zip(header, row, strict=True))["clipped"] == "0.25"
    assert dict(zip(header, row, strict=True))["reason"] == "n/a"


def test_a_container_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("APPTAINER_NAME", raising=False)
    monkeypatch.setenv("IMUNITY_CONTAINER", "imunity:9")
    write_dataset_files(tmp_path, {"raw": tmp_path.as_uri()}, "methods")
    made = json.loads((tmp_path / "dataset_description.json").read_text())["GeneratedBy"][0]
    assert made["Container"] == {"Type": "docker", "Tag": "imunity:9"}
    assert subprocess.run(["test", "-s", tmp_path / "logs" / "CITATION.md"]).returncode == 0
