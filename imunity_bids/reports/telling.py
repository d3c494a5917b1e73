"""Can the site be told from the images, before and after, and from what no harmonization of intensities can change?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from imunity_bids.metrics.tissue_classes import TISSUES
from imunity_bids.metrics.tissue_ratios import RATIOS
from imunity_bids.qc.features import AFTER, BEFORE, BLUR, BLURRED, MATCHED
from imunity_bids.reports.cohort import Cohort
from imunity_bids.unlearning.probe import FEWEST, SEEDS, probe_in_order

FIRST_ORDER = ("q", "mean", "std", "skewness", "kurtosis")  # how names of features of the histogram begin


@dataclass(frozen=True)
class Question:
    """What the probe is shown: a row per image, columns of numbers."""

    name: str
    role: str  # image, floor or control
    text: str
    shown: pd.DataFrame


def questions(cohort: Cohort) -> list[Question]:
    """In the order in which they are read; images without one of the numbers are left out of that question."""
    by_method = {name: part.set_index("image") for name, part in cohort.features.groupby("method")}
    if BEFORE not in by_method:
        return []
    textures = [
        name for name in by_method[BEFORE].columns if name not in ("site", "person", "method", *RATIOS, *TISSUES)
    ]
    histogram = [name for name in textures if name.startswith(FIRST_ORDER)]
    texts = {
        BEFORE: ("image", "intensities and textures, white-striped"),
        MATCHED: ("image", "the same after plain histogram matching to the reference"),
        AFTER: ("image", "the same, harmonized"),
        BLURRED: ("control", f"the same before, blurred (Gaussian, σ {BLUR:g} mm): detail is gone, nothing harmonized"),
    }
    asked = [Question(name, *texts[name], by_method[name][textures]) for name in texts if name in by_method]
    before = by_method[BEFORE]
    return [
        *asked,
        Question("histogram before", "control", "intensities only: mean, spread, quantiles", before[histogram]),
        Question("mask shape", "floor", "volume, widths and form of the brain mask, no intensity", cohort.shapes),
        _covariates(cohort, before),
    ]


def _covariates(cohort: Cohort, before: pd.DataFrame) -> Question:
    """Age and sex where the table has them, and volumes of tissues in template space and of the brain."""
    images = cohort.images.loc[before.index]
    shown = before[list(TISSUES)].assign(brain=pd.to_numeric(images.brain_volume_ml, errors="coerce"))
    named = []
    if images.age.notna().any():
        shown["age"] = images.age
        named.append("age")
    if (images.sex != "").any():
        shown["sex"] = images.sex.map({"F": 1.0, "M": 0.0})
        named.append("sex")
    what = ", ".join([*named, "volumes"])
    return Question(what, "floor", f"{what} of brain, CSF, gray and white matter before", shown)


def answer(question: Question, images: pd.DataFrame) -> dict[str, Any]:
    """The probe's result for one question, or `reason` where it cannot be asked; `images` as in `Cohort`."""
    shown = question.shown.dropna(axis=0)
    about = images.loc[shown.index]
    named = about.site != ""
    told: dict[str, Any] = {"name": question.name, "role": question.role, "shown": question.text}
    sites, people = (about[column][named].to_numpy(str) for column in ("site", "participant_id"))
    result = probe_in_order(shown[named].to_numpy(float), sites, people, SEEDS)
    if result is None:
        return told | {"reason": f"needs two sites with {FEWEST} persons each, for whom these numbers are known"}
    return told | result.to_dict() | {"seeds": list(result.seeds)}
