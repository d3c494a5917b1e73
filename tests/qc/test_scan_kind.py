from __future__ import annotations

import pytest

from imunity_bids.qc.scan_kind import scan_findings

PLAIN = {"Suffix": "T1w", "AcquisitionType": "", "ContrastAgent": "", "VoxelSizeMM": [1.0, 1.0, 1.0]}


@pytest.mark.parametrize(
    ("sizes", "thick"),
    [
        ([1.0, 1.0, 1.0], False),
        ([3.0, 3.0, 3.0], False),  # coarse, but no 2D scan
        ([0.5, 0.5, 1.5], False),
        ([1.0, 1.33, 1.33], False),
        ([0.9, 0.9, 5.0], True),
        ([3.0, 1.0, 1.0], True),  # sagittal slices
        ([1.5, 1.5, 3.0], True),
    ],
    ids=str,
)
def test_thick_slices_are_known_by_the_voxel(sizes: list[float], thick: bool) -> None:
    found = scan_findings(PLAIN | {"VoxelSizeMM": sizes})
    assert [finding.verdict for finding in found] == ["check"] * thick
    assert not thick or " × ".join(f"{size:.2g}" for size in sizes) in found[0].reason


def test_a_2d_scan_is_known_by_its_sidecar() -> None:
    (found,) = scan_findings(PLAIN | {"AcquisitionType": "2D"})
    assert "2D" in found.reason
    assert scan_findings(PLAIN | {"AcquisitionType": "3D"}) == []


def test_a_contrast_agent_is_named() -> None:
    (found,) = scan_findings(PLAIN | {"ContrastAgent": "gd"})
    assert found.verdict == "check" and "contrast agent (gd)" in found.reason
