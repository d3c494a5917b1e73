from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from imunity_bids.bids.participants import read_participants
from imunity_bids.errors import DataUnusable, InputMissing
from imunity_bids.unlearning.scans import FIELD_MM, Scan, find_scans, load_scan


def write(folder: Path, name: str, data: np.ndarray, zoom: float = 2.0) -> Path:
    path = folder / name.split("_")[0] / "anat" / f"{name}.nii.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data.astype(np.float32), np.diag([zoom, zoom, zoom, 1])), path)
    return path


def brain(shape: tuple[int, int, int] = (90, 108, 90)) -> np.ndarray:
    """A block, brighter to the front."""
    data = np.zeros(shape)
    data[30:60, 40:80, 30:60] = np.linspace(0.4, 0.8, 40)[:, None]
    return data


def test_harmonized_images_come_first(tmp_path: Path) -> None:
    for name in ("sub-1_space-X_res-1_desc-preproc_T1w", "sub-1_space-X_res-1_desc-harmonized_T1w"):
        write(tmp_path, name, brain())
    (tmp_path / "participants.tsv").write_text("participant_id\tage\nsub-1\t30\n")
    (scan,) = find_scans([tmp_path])
    assert "harmonized" in scan.path.name
    assert (scan.participant, scan.trait("age"), scan.trait("sex")) == ("sub-1", "30", None)
    assert "preproc" in find_scans([tmp_path], "preproc")[0].path.name
    with pytest.raises(InputMissing, match="desc-other"):
        find_scans([tmp_path], "other")


def test_sex_is_read_as_datasets_write_it() -> None:
    """ds002748 has `gender` with m and f; codes that nobody can know are left as they are."""
    rows = ({"gender": "m"}, {"sex": "Female"}, {"Sex": "F"}, {"sex": "2"}, {"sex": "n/a"}, {})
    found = [Scan(Path("x"), "sub-1", "out", row).trait("sex") for row in rows]
    assert found == ["M", "F", "F", "2", None, None]


def test_participants_of_the_raw_dataset(tmp_path: Path) -> None:
    raw = tmp_path / "raw dataset"
    raw.mkdir()
    (raw / "participants.tsv").write_text("participant_id\tage\nsub-1\tn/a\n")
    (tmp_path / "dataset_description.json").write_text(json.dumps({"DatasetLinks": {"raw": raw.as_uri()}}))
    assert read_participants(tmp_path) == {"sub-1": {"participant_id": "sub-1", "age": "n/a"}}


def test_a_scan_on_the_small_grid(tmp_path: Path) -> None:
    volume, grid = load_scan(write(tmp_path, "sub-1_T1w", brain()), spacing_mm=4)
    assert volume.shape == tuple(length / 4 for length in FIELD_MM)
    assert volume.mean().item() == pytest.approx(0, abs=1e-5)
    assert volume.std().item() == pytest.approx(1, abs=1e-4)
    middle = volume[21]
    assert middle[:, 21].argmax() > 25  # brighter to the front, the block being in the middle
    bright = (volume - volume.min()) / (volume.max() - volume.min()) > 0.3
    assert bright.sum().item() == pytest.approx(30 * 40 * 30 / 8, rel=0.15)
    assert grid.small == (42, 51, 42)


def test_labels_come_back_to_the_images_grid(tmp_path: Path) -> None:
    _, grid = load_scan(write(tmp_path, "sub-1_T1w", brain()), spacing_mm=2)
    labels = (brain() > 0).astype(np.uint8) + (brain() > 0.6)
    small = grid.reduce(labels, labels=True)
    back = grid.restore(small)
    assert back.shape == labels.shape
    assert np.mean(back == labels) > 0.99
    assert set(small.unique().tolist()) == {0, 1, 2}


def test_the_same_brain_elsewhere_gives_the_same_volume(tmp_path: Path) -> None:
    one = load_scan(write(tmp_path, "sub-1_T1w", brain()), 4)[0]
    two = load_scan(write(tmp_path, "sub-2_T1w", np.roll(brain(), 6, axis=0)), 4)[0]
    assert torch.allclose(one, two, atol=1e-4)


def test_an_empty_image(tmp_path: Path) -> None:
    with pytest.raises(DataUnusable, match="empty"):
        load_scan(write(tmp_path, "sub-1_T1w", np.zeros((10, 10, 10))), 3)
