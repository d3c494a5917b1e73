"""Which images are taken: fMRIPrep's filter file, MP2RAGE, parts and inversions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from imunity_bids.bids.filters import read_filter
from imunity_bids.bids.inputs import find_t1w
from imunity_bids.bids.outputs import derivative
from imunity_bids.errors import InputMissing, Usage

NAMES = (
    "sub-1_T1w", "sub-1_UNIT1", "sub-1_acq-x_run-1_T1w", "sub-1_acq-x_run-2_T1w", "sub-1_part-mag_T1w",
    "sub-1_part-phase_T1w", "sub-1_inv-1_T1w", "sub-1_inv-2_T1w", "sub-1_inv-1_MP2RAGE", "sub-2_UNIT1",
    "sub-2_rec-n_UNIT1", "sub-2_inv-2_part-phase_MP2RAGE", "sub-3_ses-a_T1w", "sub-3_ses-b_UNIT1",
)  # fmt: skip


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bids")
    (root / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.9.0"}')
    for name in NAMES:
        subject, *rest = name.split("_")
        session = [part for part in rest if part.startswith("ses-")]
        path = root.joinpath(subject, *session, "anat", f"{name}.nii.gz")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def taken(dataset: Path, tmp_path: Path, chosen: dict | None = None) -> list[str]:
    path = tmp_path / "filter.json"
    path.write_text(json.dumps({"t1w": chosen or {}, "bold": {"task": "rest"}}))
    return sorted(image.path.name.split(".")[0] for image in find_t1w(dataset, filter_file=path))


def test_a_uniform_image_stands_for_a_t1w_image_where_there_is_none(dataset: Path, tmp_path: Path) -> None:
    """In a session, too; no part-phase, and every inversion."""
    assert taken(dataset, tmp_path) == [
        "sub-1_T1w", "sub-1_acq-x_run-1_T1w", "sub-1_acq-x_run-2_T1w", "sub-1_inv-1_T1w", "sub-1_inv-2_T1w",
        "sub-1_part-mag_T1w", "sub-2_UNIT1", "sub-2_rec-n_UNIT1", "sub-3_ses-a_T1w", "sub-3_ses-b_UNIT1",
    ]  # fmt: skip


def test_who_asks_for_uniform_images_gets_them_and_they_collide_with_nothing(dataset: Path, tmp_path: Path) -> None:
    assert taken(dataset, tmp_path, {"suffix": "UNIT1", "subject": "1"}) == ["sub-1_UNIT1"]
    (tmp_path / "both.json").write_text('{"t1w": {"suffix": ["T1w", "UNIT1"]}}')
    images = find_t1w(dataset, filter_file=tmp_path / "both.json")
    names = {derivative(Path("/out"), image, "mask", ".nii.gz", desc="brain").name for image in images}
    assert len(names) == len(images) == sum("MP2RAGE" not in name and "phase" not in name for name in NAMES)
    assert {"sub-1_desc-brain_mask.nii.gz", "sub-1_rec-UNIT1_desc-brain_mask.nii.gz"} < names
    assert "sub-2_rec-n+UNIT1_desc-brain_mask.nii.gz" in names


def test_only_a_name_that_says_the_same_collides(tmp_path: Path) -> None:
    anat = tmp_path / "sub-1" / "anat"
    anat.mkdir(parents=True)
    for name in ("sub-1_rec-UNIT1_T1w", "sub-1_UNIT1"):
        (anat / f"{name}.nii.gz").touch()
    with pytest.raises(Usage, match="one name"):
        find_t1w(tmp_path)


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({"subject": "1", "acquisition": None, "part": None, "inv": None}, ["sub-1_T1w"]),
        ({"acquisition": "Query.NONE", "subject": "3"}, ["sub-3_ses-a_T1w", "sub-3_ses-b_UNIT1"]),
        ({"acquisition": [None, "x"], "run": 1}, ["sub-1_acq-x_run-1_T1w"]),
        ({"acquisition": "*"}, ["sub-1_acq-x_run-1_T1w", "sub-1_acq-x_run-2_T1w"]),
        ({"acquisition": "x", "run": [2]}, ["sub-1_acq-x_run-2_T1w"]),
        ({"part": ["mag"]}, ["sub-1_part-mag_T1w"]),
        ({"inv": 2}, ["sub-1_inv-2_T1w"]),
        ({"session": "a"}, ["sub-3_ses-a_T1w"]),
    ],
    ids=str,
)
def test_values_of_a_filter_file(dataset: Path, tmp_path: Path, chosen: dict, expected: list[str]) -> None:
    assert taken(dataset, tmp_path, chosen) == expected


def test_a_filter_file_that_is_none(dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "filter.json"
    with pytest.raises(InputMissing):
        read_filter(path)
    for content in ("{", "[]", '{"t1w": "mprage"}', '{"t1w": {"run": {}}}'):
        path.write_text(content)
        with pytest.raises(Usage, match="bids-filter-file"):
            read_filter(path)
    path.write_text('{"t1w": {"colour": "red"}}')
    with pytest.raises(Usage, match="no entity is called colour"):
        find_t1w(dataset, filter_file=path)
    path.write_text('{"t1w": {"session": "a"}}')
    with pytest.raises(Usage, match="give one of them"):
        find_t1w(dataset, sessions=("a",), filter_file=path)
    path.write_text('{"T1w": {"run": 1}}')
    assert read_filter(path) == {}
    assert 'no "t1w"' in caplog.text
