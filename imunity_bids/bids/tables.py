"""`*_scans.tsv` with quality measures, made from the sidecars on disk: repeating it changes nothing."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import Any

from imunity_bids.bids.inputs import T1w
from imunity_bids.bids.outputs import anat_folder, sidecar_of, write_json, write_text
from imunity_bids.bids.plan import Plan

COLUMNS = {
    "verdict": "ok, check (a person should look) or failed",
    "reason": "Why the verdict is not ok",
    "brain_volume_ml": "Volume of the brain mask in mL, inner and outer CSF included",
    "mask_border_share": "Share of the mask's surface that lies on the edge of the field of view",
    "template_correlation": "Correlation with the template inside both masks, after registration",
    "template_dice": "Overlap (Dice) with the template's mask after registration",
    "white_matter_peak": "White-matter peak before scaling, in the unit of the raw image",
    "white_matter_width": "Full width at half maximum of that peak",
    "contrast_before": "2 (white - gray) / (white + gray) before harmonization",
    "contrast_after": "The same after harmonization",
    "clipped": "Share of the brain's voxels that were cut at 1",
    "gradient_correlation": "Correlation of image gradients before and after harmonization: edges kept",
    "ssim_with_input": "SSIM between the images before and after harmonization",
    "histogram_distance_before": "Wasserstein distance to the intensities of the reference before harmonization",
    "histogram_distance_after": "The same after harmonization",
    "mean_uncertainty": "Mean uncertainty inside the brain",
}


def write_scans_tables(plan: Plan, images: list[T1w]) -> None:
    """One table per participant and session: its harmonized images, one row each."""
    out = plan.settings.output_dir
    for _, group in groupby(sorted(images, key=lambda i: anat_folder(out, i)), key=lambda i: anat_folder(out, i)):
        folder = anat_folder(out, first := next(group))
        rows = read_quality(folder)
        if not rows:
            continue
        prefix = f"sub-{first.subject}" + (f"_ses-{first.session}" if first.session else "")
        lines = ["\t".join(["filename", *COLUMNS])]
        lines += ["\t".join([f"anat/{name}", *(_cell(row.get(c)) for c in COLUMNS)]) for name, row in rows.items()]
        write_text(folder.parent / f"{prefix}_scans.tsv", "\n".join(lines) + "\n")
        described = {"filename": {"Description": "Harmonized image"}} | {
            name: {"Description": text} for name, text in COLUMNS.items()
        }
        described["verdict"]["Levels"] = {"ok": "can be trusted", "check": "look at the report", "failed": "do not use"}
        description = "Quality measures of harmonized images"
        write_json(folder.parent / f"{prefix}_scans.json", {"Description": description, **described})


def read_quality(anat: Path) -> dict[str, dict[str, Any]]:
    """`QualityControl` of every harmonized image in template space of a folder, by image name."""
    rows = {}
    for image in sorted(anat.glob("*_space-*_desc-harmonized*_T1w.nii.gz")):
        sidecar = sidecar_of(image)
        if sidecar.is_file():
            rows[image.name] = json.loads(sidecar.read_text(encoding="utf-8"))["QualityControl"]
    return rows


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "n/a"
    return f"{value:.5g}" if isinstance(value, float) else str(value)
