"""The harmonized brain in other spaces: the curve acts on the scan's own voxels, the rest is brought."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from imunity_bids.harmonize.curves import FINE, apply_curve
from imunity_bids.harmonize.elsewhere import Placed, elsewhere
from imunity_bids.image.spaces import write_identity

SQUARE = np.linspace(0, 1, FINE, dtype=np.float32) ** 2


@pytest.fixture
def scan() -> nib.Nifti1Image:
    noise = np.random.default_rng(2).random((8, 8, 8)).astype(np.float32)
    return nib.Nifti1Image(noise, np.eye(4))


def test_own_voxels_are_not_interpolated(scan: nib.Nifti1Image, tmp_path: Path) -> None:
    """White noise, which any interpolation would smooth, in a space that is half a voxel beside the models'."""
    head, here = np.asarray(scan.dataobj), np.eye(4)
    here[0, 3] = 0.5
    models = Placed(nib.Nifti1Image(head, here), write_identity(tmp_path / "i.mat"))
    made = elsewhere(scan, Placed(scan, None), head, models, head, apply_curve(SQUARE, head), SQUARE)
    np.testing.assert_allclose(made, head**2, atol=1e-5)


def test_what_noise_and_smoothness_changed_comes_along(scan: nib.Nifti1Image, tmp_path: Path) -> None:
    head = np.asarray(scan.dataobj)
    models = Placed(scan, write_identity(tmp_path / "i.mat"))
    quiet = apply_curve(SQUARE, head) - 0.1 * head
    made = elsewhere(scan, Placed(scan, None), head, models, head, quiet, SQUARE)
    np.testing.assert_allclose(made, quiet.clip(0, 1), atol=1e-5)


def test_what_a_generator_painted_is_brought_as_it_is(scan: nib.Nifti1Image, tmp_path: Path) -> None:
    head = np.asarray(scan.dataobj)
    models, painted = Placed(scan, write_identity(tmp_path / "i.mat")), np.full(scan.shape, 0.4, np.float32)
    made = elsewhere(scan, Placed(scan, None), head, models, head, painted, None)
    assert made[2:6, 2:6, 2:6] == pytest.approx(0.4, abs=1e-4)  # a spline's rim runs out of the volume
