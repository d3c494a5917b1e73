"""The scans of one person side by side, where they share mask and affine: one HTML file per person."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection
from itertools import groupby
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from imunity_bids.bids.outputs import sidecar_of, write_text
from imunity_bids.bids.scan import T1w
from imunity_bids.errors import is_disk_error
from imunity_bids.metrics.tissue_classes import TISSUES
from imunity_bids.plan.plan import Plan
from imunity_bids.qc.features import AFTER
from imunity_bids.reports import figures
from imunity_bids.reports.pages import template

log = logging.getLogger(__name__)
SHOWN = ("verdict", "brain_volume_ml", "contrast_after", "noise_after", "mean_uncertainty")  # of the quality measures


def write_visits(plan: Plan, failed: Collection[str]) -> list[str]:
    """`sub-X_longitudinal.html` of each person with two scans and more that are done; `failed` are stems of others.

    Returns those that could not be written; why is logged.
    """
    unwritten = []
    for subject, visits in groupby(sorted(plan.together, key=_subject), key=_subject):
        done = [visit for visit in visits if visit.stem not in failed and _is_there(plan, visit)]
        if len(done) < 2:
            continue
        try:
            write_text(plan.settings.output_dir / f"sub-{subject}_longitudinal.html", render(plan, done))
        except Exception as error:  # whatever it is, the others are written, as long as there is a disk
            if is_disk_error(error):
                raise
            log.error("sub-%s_longitudinal.html could not be written: %s: %s", subject, type(error).__name__, error)
            unwritten.append(f"sub-{subject}_longitudinal")
    return unwritten


def render(plan: Plan, visits: list[T1w]) -> str:
    """The HTML of one person."""
    box = figures.mask_box(_read(plan.products(visits[0]).template_mask) > 0)
    images = {visit.stem: _read(_harmonized(plan, visit)) for visit in visits}
    first = visits[0].stem
    changes = {f"{stem} minus {first}": image - images[first] for stem, image in images.items() if stem != first}
    return template("visits.html.j2").render(
        name=f"sub-{visits[0].subject}",
        images=figures.side_by_side(images, box, (0, 1)),
        changes=figures.side_by_side(changes, box, (-0.2, 0.2), "RdBu_r", "later minus first"),
        reference=plan.references[0].label,
        visits=[{"stem": visit.stem, "report": f"{visit.person}.html", **_numbers(plan, visit)} for visit in visits],
        columns=[*SHOWN, *(f"{tissue} in mL" for tissue in TISSUES)],
    )


def _subject(image: T1w) -> str:
    return image.subject


def _is_there(plan: Plan, visit: T1w) -> bool:
    return sidecar_of(_harmonized(plan, visit)).is_file()


def _harmonized(plan: Plan, visit: T1w) -> Path:
    return plan.harmonized(visit, plan.references[0])


def _numbers(plan: Plan, visit: T1w) -> dict[str, Any]:
    """Quality measures, and the tissues' volumes in template space."""
    quality = json.loads(sidecar_of(_harmonized(plan, visit)).read_text(encoding="utf-8"))["QualityControl"]
    stored = plan.products(visit).features(plan.descriptions[0])
    volumes = json.loads(stored.read_text(encoding="utf-8")).get("Images", {}).get(AFTER, {}).get("VolumesML", {})
    return {name: quality.get(name) for name in SHOWN} | {f"{name} in mL": volumes.get(name) for name in TISSUES}


def _read(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)
