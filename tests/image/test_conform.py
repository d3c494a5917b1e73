from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from imunity_bids.errors import DataUnusable, InputMissing
from imunity_bids.image.conform import conform, read_image


def image_of(data: np.ndarray, affine: np.ndarray | None = None) -> nib.Nifti1Image:
    return nib.Nifti1Image(data, np.diag([3.0, 3, 3, 1]) if affine is None else affine)


def conformed(data: np.ndarray, affine: np.ndarray | None = None) -> tuple[np.ndarray, list[str]]:
    image, fixes = conform(image_of(data, affine), np.asarray(data, dtype=np.float32))
    return np.asarray(image.dataobj), fixes


@pytest.fixture
def head(rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(1, 100, (24, 26, 28)).astype(np.float32)


def test_a_clean_image_is_not_touched(head: np.ndarray) -> None:
    data, fixes = conformed(head)
    assert fixes == []
    np.testing.assert_array_equal(data, head)


def test_axes_become_ras_without_interpolation(head: np.ndarray) -> None:
    las = np.diag([-3.0, 3, 3, 1])
    data, fixes = conformed(head, las)
    np.testing.assert_array_equal(data, head[::-1])
    assert "LAS" in fixes[0]


def test_nan_and_infinity_become_zero_and_are_counted(head: np.ndarray) -> None:
    head[0, 0, :3] = [np.nan, np.inf, -np.inf]
    data, fixes = conformed(head)
    assert np.isfinite(data).all()
    assert (data[0, 0, :3] == 0).all()
    assert fixes == ["3 voxels were NaN or infinite: set to 0"]


def test_of_several_volumes_the_first_is_used(head: np.ndarray) -> None:
    data, fixes = conformed(np.stack([head, head * 2], axis=-1))
    np.testing.assert_array_equal(data, head)
    assert "2 volumes" in fixes[0]


def test_one_volume_in_4d_is_no_event(head: np.ndarray) -> None:
    assert conformed(head[..., None])[1] == []


def test_a_few_negative_voxels_are_cut_and_z_scores_lifted(head: np.ndarray) -> None:
    ringing = head.copy()
    ringing[0, 0, 0] = -5
    assert conformed(ringing)[0].min() == 0
    scores = (head - head.mean()) / head.std()
    lifted, fixes = conformed(scores)
    assert "was added" in fixes[0]
    # order and distances of the intensities survive, except for the lowest 0.1 % that are cut
    assert np.corrcoef(lifted.ravel(), scores.ravel())[0, 1] > 0.9999


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (np.zeros((24, 24, 24)), "zero"),
        (np.full((24, 24, 24), 7.0), "constant"),
        (np.ones((24, 24)), "not a 3D head"),
        (np.random.default_rng(0).random((24, 24, 10)), "field of view"),
    ],
)
def test_what_cannot_be_a_head_is_refused(data: np.ndarray, words: str) -> None:
    with pytest.raises(DataUnusable, match=words):
        conformed(data)


def test_meters_are_understood(head: np.ndarray) -> None:
    image = image_of(head, np.diag([0.003, 0.003, 0.003, 1]))
    image.header.set_xyzt_units("meter")
    out, fixes = conform(image, head)
    np.testing.assert_allclose(out.header.get_zooms(), 3, rtol=1e-5)
    assert "converted" in fixes[0]


def test_no_orientation_in_the_header_is_said_aloud(head: np.ndarray) -> None:
    image = image_of(head)
    image.header["sform_code"] = image.header["qform_code"] = 0
    _, fixes = conform(image, head)
    assert "no sform and no qform" in fixes[0]


def test_the_slope_of_the_header_is_applied(tmp_path: Path, head: np.ndarray) -> None:
    image = nib.Nifti1Image(head.astype(np.int16), np.eye(4))
    image.header.set_slope_inter(0.5, 10)
    image.to_filename(tmp_path / "scaled.nii")
    stored = nib.load(tmp_path / "scaled.nii")
    np.testing.assert_allclose(read_image(tmp_path / "scaled.nii")[1], stored.get_fdata(), rtol=1e-6)


def test_truncated_missing_and_wrong_files(tmp_path: Path, head: np.ndarray) -> None:
    whole = tmp_path / "whole.nii.gz"
    image_of(head).to_filename(whole)
    (tmp_path / "cut.nii.gz").write_bytes(whole.read_bytes()[:-2000])
    (tmp_path / "text.nii.gz").write_bytes(gzip.compress(b"no image"))
    for name in ("cut.nii.gz", "text.nii.gz"):
        with pytest.raises(DataUnusable, match="truncated or not a NIfTI"):
            read_image(tmp_path / name)
    with pytest.raises(InputMissing, match="does not exist"):
        read_image(tmp_path / "absent.nii.gz")


def test_z_scores_of_a_stripped_scan_keep_their_empty_background(ball: np.ndarray, rng: np.random.Generator) -> None:
    """Lifted with the rest, the background would look like a head, and the scan would be stripped once more."""
    from imunity_bids.image.brain_mask import is_stripped

    data = np.zeros(ball.shape, np.float32)
    data[ball] = rng.standard_normal(ball.sum())
    made, fixes = conform(nib.Nifti1Image(data, np.diag([3.5, 3.5, 3.5, 1])), data)
    lifted = np.asarray(made.dataobj)
    assert (lifted[~ball] == 0).all()
    assert (lifted[ball] > 0).mean() > 0.99
    kept = lifted[ball] > 0  # all but the lowest in a thousand, which are cut at 0
    assert np.ptp((lifted[ball] - data[ball])[kept]) < 1e-5
    assert "to all others" in fixes[0]
    assert is_stripped(made, ball)
