"""What is known of a scan before a voxel is looked at, and a person should know before trusting the result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imunity_bids.qc.verdict import Finding

THICK_MM, THICK_TIMES = 2.5, 2.0  # a slice at least so thick, and so many times the voxel's shortest side


def scan_findings(scan: Mapping[str, Any]) -> list[Finding]:
    """Thick slices of a 2D scan; a contrast agent.

    Parameters
    ----------
    scan
        `VoxelSizeMM` (three numbers), `AcquisitionType` and `ContrastAgent` (empty: not known, none).
    """
    sizes = scan["VoxelSizeMM"]
    thick = max(sizes) >= max(THICK_MM, THICK_TIMES * min(sizes))
    found = []
    if thick or scan["AcquisitionType"].upper() == "2D":
        voxel = " × ".join(f"{size:.2g}" for size in sizes)
        found.append(Finding("check", f"thick slices or a 2D scan (voxels of {voxel} mm): no detail across slices"))
    if agent := scan["ContrastAgent"]:
        found.append(Finding("check", f"contrast agent ({agent}): vessels and some lesions are brighter"))
    return found
