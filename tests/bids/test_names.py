from __future__ import annotations

import fcntl
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from imunity_bids.bids.inputs import T1w, check_dataset, find_t1w
from imunity_bids.bids.outputs import (
    TEMPORARY,
    derivative,
    remove_strays,
    transform_path,
    write_atomically,
    write_json,
    write_nifti,
)
from imunity_bids.errors import InputMissing, NotBids, NothingSelected, Usage


def source(name: str) -> T1w:
    return T1w.from_path(Path("/data/sub-01/anat") / name, Path("/data"))


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("sub-01_T1w.nii.gz", "sub-01/anat/sub-01_space-X_res-1_desc-harmonized_T1w.nii.gz"),
        (
            "sub-01_ses-a_acq-m_ce-gd_rec-n_run-2_echo-1_part-mag_chunk-3_T1w.nii",
            "sub-01/ses-a/anat/"
            "sub-01_ses-a_acq-m_ce-gd_rec-n_run-2_echo-1_part-mag_space-X_chunk-3_res-1_desc-harmonized_T1w.nii.gz",
        ),
        ("sub-a+b_T1w.nii.gz", "sub-a+b/anat/sub-a+b_space-X_res-1_desc-harmonized_T1w.nii.gz"),
    ],
)
def test_every_entity_of_the_source_is_kept_in_order(raw: str, expected: str) -> None:
    path = derivative(Path("/out"), source(raw), "T1w", ".nii.gz", desc="harmonized", res="1", space="X")
    assert path == Path("/out") / expected


def test_names_of_transforms_and_uris() -> None:
    image = source("sub-01_run-1_T1w.nii.gz")
    assert transform_path(Path("/out"), image, "T1w", "X").name == "sub-01_run-1_from-T1w_to-X_mode-image_xfm.mat"
    assert image.uri == "bids:raw:sub-01/anat/sub-01_run-1_T1w.nii.gz"


def test_a_failed_write_leaves_nothing_and_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": float("nan")})

    def half(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="space"):
        write_atomically(path, half)
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_half_written_files_of_the_dead_go_and_those_of_the_living_stay(tmp_path: Path) -> None:
    dead, living = (tmp_path / f"{TEMPORARY}{name}.nii.gz" for name in ("dead", "living"))
    dead.write_bytes(b"half")
    with open(living, "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        write_nifti(tmp_path / "new.nii.gz", np.zeros((2, 2, 2), np.float32), np.eye(4), 1)
        assert sorted(path.name for path in tmp_path.iterdir()) == [living.name, "new.nii.gz"]
    write_nifti(tmp_path / "new.nii.gz", np.zeros((2, 2, 2), np.float32), np.eye(4), 1)
    assert [path.name for path in tmp_path.iterdir()] == ["new.nii.gz"]


def test_a_file_is_locked_while_it_is_written(tmp_path: Path) -> None:
    def write(path: Path) -> None:
        remove_strays(tmp_path)
        assert path.exists()
        path.write_text("whole")

    assert write_atomically(tmp_path / "file.txt", write).read_text() == "whole"


def test_nifti_header(tmp_path: Path) -> None:
    turn = nib.eulerangles.euler2mat(0.2, 0.1, 0.3) @ np.diag([1.0, 1.2, 0.9])
    affine = nib.affines.from_matvec(turn, [1, 2, 3])
    path = write_nifti(tmp_path / "a.nii.gz", np.ones((4, 5, 6), np.float32), affine, 4)
    header = nib.load(path).header
    np.testing.assert_allclose(header.get_qform(), header.get_sform(), atol=1e-5)
    assert (int(header["qform_code"]), int(header["sform_code"])) == (4, 4)
    assert header.get_xyzt_units()[0] == "mm"


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    (tmp_path / "dataset_description.json").write_text('{"Name": "é", "BIDSVersion": "1.9.0"}', encoding="utf-8")
    for name in (
        "sub-01/ses-1/anat/sub-01_ses-1_run-1_T1w.nii.gz",
        "sub-01/ses-1/anat/sub-01_ses-1_run-2_T1w.nii.gz",
        "sub-01/ses-2/anat/sub-01_ses-2_acq-low_T1w.nii",
        "sub-02/anat/sub-02_T1w.nii.gz",
        "sub-02/anat/sub-02_T2w.nii.gz",
        "derivatives/x/sub-09/anat/sub-09_T1w.nii.gz",
        "sourcedata/sub-08/anat/sub-08_T1w.nii.gz",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "sub-02/anat/sub-02_T1w.json").write_text("{broken")
    (tmp_path / "participants.tsv").write_text("participant_id\tcentre\nsub-01\tA\nsub-02\tB\n")
    return tmp_path


def stems(images: list[T1w]) -> list[str]:
    return [image.stem for image in images]


def test_all_t1w_are_found_and_nothing_else(dataset: Path) -> None:
    check_dataset(dataset, False)
    assert stems(find_t1w(dataset)) == ["sub-01_ses-1_run-1", "sub-01_ses-1_run-2", "sub-01_ses-2_acq-low", "sub-02"]


def test_filters(dataset: Path, tmp_path: Path) -> None:
    assert stems(find_t1w(dataset, ("02",))) == ["sub-02"]
    assert stems(find_t1w(dataset, sessions=("2",))) == ["sub-01_ses-2_acq-low"]
    chosen = tmp_path / "filter.json"
    chosen.write_text('{"t1w": {"run": 2}}')
    assert stems(find_t1w(dataset, filter_file=chosen)) == ["sub-01_ses-1_run-2"]
    with pytest.raises(NothingSelected, match=r"participant 77; there are: 01, 02"):
        find_t1w(dataset, ("77",))
    with pytest.raises(NothingSelected):
        find_t1w(dataset, sessions=("9",))
    chosen.write_text("{")
    with pytest.raises(Usage):
        find_t1w(dataset, filter_file=chosen)


def test_who_is_left_out(dataset: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert stems(find_t1w(dataset, excluded=("01",))) == ["sub-02"]
    assert stems(find_t1w(dataset, ("02", "01"), excluded=("01", "77"))) == ["sub-02"]
    assert "--exclude-participant-label 77" in caplog.text
    with pytest.raises(NothingSelected, match="leaves no participant"):
        find_t1w(dataset, ("01",), excluded=("01",))


def test_what_is_no_dataset(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(InputMissing):
        check_dataset(tmp_path / "absent", False)
    (dataset / "dataset_description.json").write_text("{")
    with pytest.raises(NotBids, match="not valid JSON"):
        check_dataset(dataset, False)
    (dataset / "dataset_description.json").write_text("{}")
    with pytest.raises(NotBids, match="lacks Name"):
        check_dataset(dataset, False)
    (dataset / "dataset_description.json").unlink()
    with pytest.raises(NotBids, match="no dataset_description"):
        check_dataset(dataset, False)
    check_dataset(dataset, True)
