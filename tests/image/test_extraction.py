from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from imunity_bids.errors import DataUnusable, InputMissing
from imunity_bids.evaluation.brain import real_cases
from imunity_bids.image.extraction import extract_brain


@pytest.fixture
def stripped(ball: np.ndarray, rng: np.random.Generator) -> nib.Nifti1Image:
    data = ball * rng.uniform(50, 100, ball.shape)
    return nib.Nifti1Image(data.astype(np.float32), np.diag([3.5, 3.5, 3.5, 1]))


def test_a_stripped_scan_keeps_its_mask(stripped: nib.Nifti1Image, ball: np.ndarray) -> None:
    brain = extract_brain(stripped, "none")
    assert brain.method == "none"
    assert (brain.mask == ball).mean() > 0.999


def test_synthstrip_needs_its_weights(stripped: nib.Nifti1Image, tmp_path: Path) -> None:
    pytest.importorskip("nipreps.synthstrip", reason="needs the extra `synthstrip`")
    with pytest.raises(InputMissing, match="weights are not there"):
        extract_brain(stripped, "synthstrip", synthstrip_model=str(tmp_path / "absent.pt"))


def test_synthstrip_is_really_called(stripped: nib.Nifti1Image, tmp_path: Path) -> None:
    """With weights that are no weights its own error comes through; its real ones are not ours to ship."""
    pytest.importorskip("nipreps.synthstrip", reason="needs the extra `synthstrip`")
    (tmp_path / "weights.pt").write_bytes(b"nonsense")
    with pytest.raises(DataUnusable, match="SynthStrip failed"):
        extract_brain(stripped, "synthstrip", synthstrip_model=str(tmp_path / "weights.pt"))


@pytest.mark.slow
def test_registration_finds_the_brain_of_a_real_head(data: Path) -> None:
    """Worse than the network (Dice 0.86 to 0.91 on four heads), but it must not take the face for brain."""
    bids = data / "ixi-hh-2mm"
    case = next(real_cases(bids, bids / "derivatives" / "dlmuse"))
    brain = extract_brain(case.image, "ants")
    assert 2 * (brain.mask & case.truth).sum() / (brain.mask.sum() + case.truth.sum()) > 0.85
