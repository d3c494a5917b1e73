"""The demo's images: another anatomy, and what a scanner makes of it. The dataset as a whole: `tests/integration`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from imunity_bids.bids.participants import read_participants
from imunity_bids.bids.sites import named_sites
from imunity_bids.simulation import demo
from imunity_bids.simulation.demo import SCANNERS, TISSUES, VISITS, Visit, scan, warp, write_heads, write_tables

PLAIN = replace(SCANNERS[0], bias=0.0, noise=0.0, gain=1000.0)


@pytest.fixture(scope="module")
def block() -> np.ndarray:
    """A cube of white matter in a cube of CSF."""
    maps = np.zeros((len(TISSUES), 40, 44, 36), np.float32)
    maps[TISSUES.index("csf"), 8:32, 8:36, 8:28] = 1
    white = (slice(14, 26), slice(14, 30), slice(12, 24))
    maps[(slice(None), *white)] = 0
    maps[(TISSUES.index("white"), *white)] = 1
    return maps


def test_tissues_have_their_signal(block: np.ndarray, rng: np.random.Generator) -> None:
    image, affine = scan(block, np.eye(4), PLAIN, rng)
    assert image.dtype == np.int16
    np.testing.assert_array_equal(affine, np.eye(4))
    for tissue, voxel in (("white", (20, 22, 18)), ("csf", (10, 22, 18))):
        around = image[tuple(slice(v - 1, v + 2) for v in voxel)]
        # Tissue varies by 0.04, smoothed; the middle of a tissue is out of reach of the scanner's blur.
        assert around.mean() == pytest.approx(1000 * PLAIN.signal[TISSUES.index(tissue)], rel=0.03)
    assert image[0, 0, 0] == 0


def test_a_coarser_scanner_has_fewer_voxels_over_the_same_head(block: np.ndarray, rng: np.random.Generator) -> None:
    image, affine = scan(block, np.diag([-1.0, 1, 1, 1]), replace(PLAIN, spacing_mm=(2.0, 1.0, 1.0)), rng)
    assert image.shape == (20, 44, 36)
    np.testing.assert_array_equal(np.diag(affine), [-2, 1, 1, 1])


def test_noise_of_the_background_is_rician(block: np.ndarray, rng: np.random.Generator) -> None:
    image, _ = scan(block, np.eye(4), replace(PLAIN, noise=0.05), rng)
    background = image[:6].astype(float)
    assert background.mean() == pytest.approx(50 * np.sqrt(np.pi / 2), rel=0.03)  # 9,500 voxels, truncated to integers


def test_a_person_is_the_same_for_the_same_seed_and_differs_for_another(block: np.ndarray) -> None:
    first, again, another = (warp(block, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - another).mean() > 0.01
    # A deformation of a few mm and 5 %: volumes stay of the same order.
    assert first[TISSUES.index("white")].sum() == pytest.approx(block[TISSUES.index("white")].sum(), rel=0.5)
    assert first.min() >= 0 and first.max() <= 1


def test_the_person_on_both_scanners_is_of_both_sites(tmp_path: Path) -> None:
    write_tables(tmp_path)
    stems = {f"sub-{subject}_ses-{site}": site for subject, site in VISITS}
    assert named_sites(tmp_path, stems, "site", read_participants(tmp_path)) == stems
    assert sum(stem.startswith("sub-02") for stem in stems) == 2


def test_every_visit_is_written_where_the_head_lies(
    block: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "template_head", lambda: (block, np.eye(4)))
    shift = np.eye(4)
    shift[0, 3] = 5
    visits = [Visit("01", "A001", PLAIN), Visit("01", "A002", PLAIN), Visit("02", "A001", PLAIN)]
    write_heads(tmp_path, "some", visits, 1, lambda who, head: head * (who == "01"), lambda rng: shift)
    first, again, other = (
        nib.load(tmp_path / f"sub-{v.subject}/ses-{v.session}/anat/sub-{v.subject}_ses-{v.session}_T1w.nii.gz")
        for v in visits
    )
    np.testing.assert_array_equal(first.affine, shift)
    # Tissue varies by 0.04, smoothed: the same head twice, but not the same scan.
    assert 0 < np.abs(first.get_fdata() - again.get_fdata()).mean() < 0.02 * first.get_fdata().max()
    assert other.get_fdata().max() == 0
