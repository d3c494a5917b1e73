"""The evaluation with traveling subjects made small, to compare bundles: slabs of brains, three scanners."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from imunity_bids.evaluation.travelers import OURS, evaluate_travelers
from imunity_bids.simulation.scanners import SCANNERS

SLAB = 32  # axial slices around the middle of the brain


def chosen(derivatives: list[Path], globs: list[str]) -> list[Path]:
    """White-striped brains whose names begin with one of the patterns."""
    wanted = [f"**/{glob}_space-*_desc-preproc_T1w.nii.gz" for glob in globs]
    return [path for glob in wanted for folder in derivatives for path in sorted(folder.glob(glob))]


def slab(path: Path, folder: Path) -> Path:
    """The middle of a brain and of its mask, under the same names."""
    folder.mkdir(parents=True, exist_ok=True)
    mask_path = path.with_name(path.name.replace("desc-preproc_T1w", "desc-brain_mask"))
    used = np.flatnonzero((np.asarray(nib.load(mask_path).dataobj) > 0).any(axis=(0, 1)))
    first = int(used.mean()) - SLAB // 2
    for file in (mask_path, path):
        nib.load(file).slicer[:, :, first : first + SLAB].to_filename(folder / file.name)
    return folder / path.name


def evaluated(slabs: list[Path], model: Path, folder: Path, visits: Path) -> dict[str, Any]:
    """Summary of the evaluation, from `folder` where it is there; all bundles see the scans in `visits`."""
    if not (folder / "travelers.json").is_file():
        visits.mkdir(parents=True, exist_ok=True)
        if not (folder / "visits").exists():
            (folder / "visits").symlink_to(visits.resolve())
        evaluate_travelers(slabs, model, folder, scanners=SCANNERS[::2])
    return json.loads((folder / "travelers.json").read_text())


def scores(summary: dict[str, Any], method: str = OURS) -> dict[str, float]:
    """A row of the table; the worst direction and the scan's own scanner are known of our method alone."""
    row = {score: summary["travels"][method][score] for score in ("ssim", "mae", "gradient_correlation")}
    if method != OURS:
        return row
    return row | {
        "worst direction": summary["worst_direction"]["gain_over_raw"],
        "identity SSIM": summary["identity"]["ssim"],
        "identity MAE": summary["identity"]["mae"],
    }
