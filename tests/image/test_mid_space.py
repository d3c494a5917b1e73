"""The space midway between scans of one person: it favours none, and the known motion comes out."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage
from scipy.linalg import logm
from scipy.spatial.transform import Rotation

from imunity_bids.image.ants_bridge import read_motion, write_motion
from imunity_bids.image.mid_space import centred, mid_space


def motion(degrees: tuple[float, float, float], shift: tuple[float, float, float]) -> np.ndarray:
    return nib.affines.from_matvec(Rotation.from_euler("xyz", degrees, degrees=True).as_matrix(), shift)


FIRST = motion((4, -3, 5), (3.0, -2.0, 1.5))
SECOND = motion((-2, 6, 1), (-1.0, 4.0, 2.0))


def test_a_motion_is_written_and_read(tmp_path: Path) -> None:
    """Also about a centre of its own, as registrations write them."""
    import ants

    np.testing.assert_allclose(read_motion(write_motion(tmp_path / "a.mat", FIRST)), FIRST, atol=1e-6)
    linear = FIRST[:3, :3]
    own = ants.create_ants_transform("AffineTransform", matrix=linear, translation=(1, 2, 3), center=(10, 20, 30))
    ants.write_transform(own, str(tmp_path / "b.mat"))
    (x, y, z) = own.apply_to_point((5, 6, 7))  # LPS
    point = read_motion(tmp_path / "b.mat") @ (-5, -6, 7, 1)
    np.testing.assert_allclose(point[:3], (-x, -y, z), atol=1e-4)


def test_the_middle_is_the_middle(tmp_path: Path) -> None:
    found = centred([np.eye(4), FIRST, SECOND])
    np.testing.assert_allclose(np.mean([logm(m).real for m in found], axis=0), 0, atol=0.01)
    relative = found[1] @ np.linalg.inv(found[0])  # from the first scan to the second: as before
    np.testing.assert_allclose(relative, FIRST, atol=1e-9)
    half = centred([np.eye(4), FIRST])
    np.testing.assert_allclose(half[1], np.linalg.inv(half[0]), atol=1e-9)  # of two, half the way each


@pytest.fixture
def brain(rng: np.random.Generator) -> np.ndarray:
    """An ellipsoid of 48³ voxels of 2 mm with blobs in it, smooth."""
    grid = (np.indices((48, 48, 48)) - 23.5) / np.array([14, 17, 13]).reshape(3, 1, 1, 1)
    blobs = ndimage.gaussian_filter(rng.standard_normal((48, 48, 48)), 3)
    return np.where((grid**2).sum(0) < 1, 100 + 40 * blobs / blobs.std(), 0).clip(0).astype(np.float32)


def seen(brain: np.ndarray, where: np.ndarray) -> nib.Nifti1Image:
    """The brain after a motion (its points to those of the scan), on the grid it had."""
    affine = nib.affines.from_matvec(2 * np.eye(3), [-47, -47, -47])
    to_voxels = np.linalg.inv(affine) @ np.linalg.inv(where) @ affine
    data = ndimage.affine_transform(brain, to_voxels[:3, :3], to_voxels[:3, 3], order=3)
    return nib.Nifti1Image(data.clip(0).astype(np.float32), affine)


def test_scans_meet_where_they_should(brain: np.ndarray, tmp_path: Path) -> None:
    scans = [seen(brain, where) for where in (np.eye(4), FIRST)]
    masks = [np.asarray(scan.dataobj) > 20 for scan in scans]
    found = mid_space(scans, masks, 1, tmp_path)
    relative = found.motions[1] @ np.linalg.inv(found.motions[0])
    corners = np.array([[x, y, z, 1.0] for x in (-28, 28) for y in (-34, 34) for z in (-26, 26)]).T
    # A tenth of a voxel, all over the brain: what is left of the registration.
    assert np.abs((relative - FIRST) @ corners).max() < 0.2
    np.testing.assert_allclose(found.motions[1], np.linalg.inv(found.motions[0]), atol=1e-4)  # files hold floats
    volumes = [mask.sum() * 8 for mask in masks]
    voxel = np.prod(found.mean.header.get_zooms())
    assert voxel == pytest.approx(8)  # as fine as the scans
    assert found.mask.sum() * voxel == pytest.approx(np.mean(volumes), rel=0.02)
