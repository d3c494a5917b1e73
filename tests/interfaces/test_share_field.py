"""A scan is brought to the field that it shares: the image, the saved field, and the image in template space."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from imunity_bids.image.ants_bridge import write_motion
from imunity_bids.interfaces.visits import ShareField

SHAPE = (24, 26, 28)


def save(path: Path, data: np.ndarray, affine: np.ndarray) -> str:
    nib.Nifti1Image(data.astype(np.float32), affine).to_filename(path)
    return str(path)


def test_what_is_taken_out_of_the_scan_is_in_its_field(tmp_path: Path) -> None:
    """A deviation that rises along x in template space, and a scan that lies 6 mm further along x."""
    space, motion = np.diag([2.0, 2.0, 2.0, 1.0]), nib.affines.from_matvec(np.eye(3), [6.0, 0, 0])
    slope, origin = 0.001, -30.0
    coarse = nib.affines.from_matvec(3 * np.eye(3), np.full(3, origin))
    deviation = slope * (coarse[0, 3] + 3 * np.arange(48))[:, None, None] * np.ones((1, 48, 48))
    rng = np.random.default_rng(1)
    scan, field, moved = (1 + rng.random(SHAPE) for _ in range(3))
    step = ShareField(
        index=1,
        deviations=[save(tmp_path / "other.nii", -deviation, coarse), save(tmp_path / "own.nii", deviation, coarse)],
        native_t1w=save(tmp_path / "scan.nii", scan, motion @ space),
        native_seen=save(tmp_path / "seen.nii", np.ones(SHAPE), motion @ space),
        field=save(tmp_path / "field.nii", field, motion @ space),
        moved=save(tmp_path / "moved.nii", moved, space),
        bias_info={"method": "some field", "measures": {}},
        # of points: those of the scan to the template, which is how images go from the template to the scan
        backward=str(write_motion(tmp_path / "backward.mat", np.linalg.inv(motion))),
    )
    (tmp_path / "made").mkdir()
    made = step.work(tmp_path / "made")
    image, new, there = (nib.load(made[name]).get_fdata() for name in ("out_file", "field", "moved"))
    x = 2.0 * np.arange(SHAPE[0])[:, None, None] * np.ones(SHAPE)  # of the voxels in template space, for both
    np.testing.assert_allclose(moved / there, np.exp(slope * x), rtol=1e-5)
    np.testing.assert_allclose(scan / image, np.exp(slope * x), rtol=1e-5)
    np.testing.assert_allclose(image * new, scan * field, rtol=1e-5)
    assert made["info"]["method"].startswith("some field; the mean field of the person's scans")
    assert made["info"]["measures"]["inu_range"] == pytest.approx(np.ptp(np.percentile(new, [5, 95])), rel=1e-5)
