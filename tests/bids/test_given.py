"""Which masks of others belong to an image, by their names."""

from __future__ import annotations

from pathlib import Path

import pytest

from imunity_bids.bids.given import with_given
from imunity_bids.bids.links import derivative_folders, reference_folder
from imunity_bids.bids.scan import T1w
from imunity_bids.errors import InputMissing, Usage
from imunity_bids.settings import Settings


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.fixture
def image(tmp_path: Path) -> T1w:
    return T1w.from_path(
        tmp_path / "bids" / "sub-1" / "ses-a" / "anat" / "sub-1_ses-a_run-2_T1w.nii.gz", tmp_path / "bids"
    )


def test_a_brain_mask_of_the_same_entities_in_the_scans_space(image: T1w, tmp_path: Path) -> None:
    anat = "sub-1/ses-a/anat/sub-1_ses-a_"
    others = ("run-1_desc-brain_mask", "desc-brain_mask", "run-2_space-MNI152_desc-brain_mask", "run-2_desc-csf_mask",
              "run-2_label-GM_desc-brain_mask", "run-2_desc-brain_probseg", "run-20_desc-brain_mask")  # fmt: skip
    touch(tmp_path / "d", *(f"{anat}{name}.nii.gz" for name in others))
    assert with_given(image, {"d": tmp_path / "d"}).brain_mask is None
    touch(tmp_path / "d", f"{anat}run-2_desc-brain_mask.nii", f"{anat}run-2_desc-brain_mask.json")
    touch(tmp_path / "e", f"{anat}run-2_space-T1w_desc-brain_mask.nii.gz")
    found = with_given(image, {"d": tmp_path / "d", "e": tmp_path / "e"})
    assert found.brain_mask.uri == f"bids:d:{anat}run-2_desc-brain_mask.nii"
    assert found.brain_mask.path.is_file()
    assert with_given(image, {"e": tmp_path / "e", "d": tmp_path / "d"}).brain_mask.uri.startswith(
        "bids:e:"
    )  # the first
    touch(tmp_path / "d", f"{anat}run-2_desc-brain_mask.nii.gz")
    assert with_given(image, {"d": tmp_path / "d"}).brain_mask.path.name.endswith(".nii.gz")
    assert found.given == (found.brain_mask,)


def test_lesions_of_the_dataset_and_of_derivatives(image: T1w, tmp_path: Path) -> None:
    anat = "sub-1/ses-a/anat/sub-1_ses-a_run-2_"
    touch(
        tmp_path / "bids",
        f"{anat}label-lesion_roi.nii.gz",
        f"{anat}T1w_label-lesion_roi.nii.gz",
        f"{anat}label-L_roi.nii.gz",
    )
    touch(tmp_path / "d", f"{anat}label-lesion_desc-manual_mask.nii.gz", f"{anat}space-MNI_label-lesion_mask.nii.gz")
    found = with_given(image, {"d": tmp_path / "d"})
    assert [lesion.uri for lesion in found.lesions] == [
        f"bids:raw:{anat}T1w_label-lesion_roi.nii.gz",
        f"bids:raw:{anat}label-lesion_roi.nii.gz",
        f"bids:d:{anat}label-lesion_desc-manual_mask.nii.gz",
    ]
    assert found.brain_mask is None


def test_folders_and_their_names(tmp_path: Path) -> None:
    for name in ("bids", "out", "x", "y/x", "a b"):
        (tmp_path / name).mkdir(parents=True)

    def folders(*specs: str) -> dict[str, Path]:
        return derivative_folders(specs, tmp_path / "bids", tmp_path / "out")

    assert folders(f"{tmp_path}/x", f"fs-7.4={tmp_path}/y/x") == {"x": tmp_path / "x", "fs-7.4": tmp_path / "y/x"}
    assert folders(f"m={tmp_path}/a b") == {"m": tmp_path / "a b"}
    for specs, words in (
        ((f"{tmp_path}/x", f"{tmp_path}/y/x"), "called x"),
        ((f"raw={tmp_path}/x",), "another name"),
        ((f"{tmp_path}/a b",), "another name"),
        ((f"me={tmp_path}/out",), "OUTPUT_DIR"),
        ((f"me={tmp_path}/bids",), "BIDS_DIR"),
    ):
        with pytest.raises(Usage, match=words):
            folders(*specs)
    with pytest.raises(InputMissing, match="no such folder"):
        folders(f"{tmp_path}/z")


def test_the_dataset_of_references(tmp_path: Path) -> None:
    for name in ("bids", "out", "x", "other x"):
        (tmp_path / name).mkdir()

    def named(spec: str, *derivatives: str) -> tuple[str, Path] | None:
        return reference_folder(
            Settings(tmp_path / "bids", tmp_path / "out", reference_dataset=spec, derivatives=derivatives)
        )

    assert named("") is None
    assert named(f"{tmp_path}/x") == ("x", tmp_path / "x")
    assert named(f"x={tmp_path}/other x") == ("x", tmp_path / "other x")
    for words, *specs in (
        ("BIDS_DIR", f"{tmp_path}/bids"),
        ("OUTPUT_DIR", f"{tmp_path}/out"),
        ("another name", f"raw={tmp_path}/x"),
        ("of --derivatives is called x", f"{tmp_path}/x", f"x={tmp_path}/other x"),
    ):
        with pytest.raises(Usage, match=words):
            named(*specs)
    with pytest.raises(InputMissing, match=r"--reference-dataset .*absent: no such folder"):
        named(f"{tmp_path}/absent")
