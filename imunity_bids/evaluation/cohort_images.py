"""Images of a cohort as rows of features, before and after, and after the simpler methods on the same input."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from imunity_bids.bids.outputs import sidecar_of
from imunity_bids.bids.participants import age_of, known, read_participants, sex_of
from imunity_bids.bids.tables import FEATURES
from imunity_bids.errors import InputMissing
from imunity_bids.evaluation.baselines import LANDMARKS, nyul_to
from imunity_bids.evaluation.real_sites import cut_brain
from imunity_bids.metrics.tissue_ratios import well_inside
from imunity_bids.qc.features import AFTER, BEFORE, BLURRED, MATCHED, volumes_and_intensities

log = logging.getLogger(__name__)
UNSTRIPED, STRIPED, MATCHING, NYUL, BLUR, HARMONIZED, SHAPE = (
    "no white stripe",
    "white stripe only",
    "histogram matching",
    "Nyúl",
    "blurred (control)",
    "harmonized",
    "mask shape alone",
)
STORED = {BEFORE: STRIPED, MATCHED: MATCHING, BLURRED: BLUR, AFTER: HARMONIZED}
IMAGES = (SHAPE, UNSTRIPED, STRIPED, MATCHING, NYUL, BLUR, HARMONIZED)  # in the order of tables
FULL = 99  # percent
Features = dict[str, dict[str, float | None]]  # of one image, by method


def derivative_table(
    folders: Sequence[Path], targets: Sequence[str], site_column: str = "site", jobs: int = 1
) -> pd.DataFrame:
    """A row per image and method of `IMAGES`: `subject`, `site`, `age`, `sex`, targets, `method`, features `f_*`.

    Most are read from what the participant level stored; two methods are run on its preprocessed images.
    The site is a column of participants.tsv, or else the folder.

    Raises
    ------
    InputMissing
        A folder holds no stored features.
    """
    wanted = [entry for folder in folders for entry in _stored_files(folder, targets, site_column)]
    parts = Parallel(n_jobs=jobs)(delayed(_of_derivative)(path) for path, _ in wanted)
    table = as_table(zip(parts, (about for _, about in wanted), strict=True))
    complete = table.groupby("method").subject.count()
    if short := [name for name in complete.index if complete[name] < complete.max()]:
        log.warning("left out, since not all images have it: %s", ", ".join(short))
    return table[~table.method.isin(short)]


def as_table(images: Iterator[tuple[Features, Mapping[str, Any]]]) -> pd.DataFrame:
    """Features by method of each image, and what is known of it, as rows."""
    rows = [
        {**about, "method": method, **{f"f_{name}": value for name, value in features[method].items()}}
        for features, about in images
        for method in features
    ]
    return pd.DataFrame(rows).replace({None: np.nan, "": np.nan})


def features_by_method(
    stored: Mapping[str, Any],
    brain: np.ndarray,
    mask: np.ndarray,
    inside: dict[str, np.ndarray],
    target: np.ndarray,
) -> Features:
    """Of one image: what is stored (`qc.features.image_features`), and two methods more.

    Without white stripe the `FULL` percentile of the brain is at 1: what one does who knows nothing of white matter.

    Parameters
    ----------
    stored
        With `Images` and `MaskShape`.
    brain, mask
        White-striped brain and its mask, (X, Y, Z), cut to the box around it.
    inside
        `well_inside` of that brain.
    target
        Quantiles of the reference at 0, 1, …, 100 %, (101,).
    """
    unstriped = np.clip(brain / np.percentile(brain[mask], FULL), 0, 1)
    more = {UNSTRIPED: unstriped, NYUL: nyul_to(brain, mask, target[list(LANDMARKS)])}
    return _from_stored(stored) | {name: features_of(image, mask, inside) for name, image in more.items()}


def features_of(image: np.ndarray, mask: np.ndarray, inside: dict[str, np.ndarray]) -> dict[str, float | None]:
    """The same numbers of any image in [0, 1], (X, Y, Z), cut to the box around the mask; `inside` as `well_inside`."""
    return _flat(volumes_and_intensities(image, mask, inside))


def _from_stored(stored: Mapping[str, Any]) -> Features:
    return {SHAPE: stored["MaskShape"], **{STORED[name]: _flat(parts) for name, parts in stored["Images"].items()}}


def _flat(parts: Mapping[str, Mapping[str, float | None]]) -> dict[str, float | None]:
    """Volumes of tissues, intensities and textures: what harmonization can change. Ratios lack where tissues do."""
    return {**parts.get("VolumesML", {}), **parts["Intensities"]}


def _stored_files(folder: Path, targets: Sequence[str], site_column: str) -> list[tuple[Path, dict[str, Any]]]:
    """Files with stored features, and what is known of the person."""
    paths = sorted(folder.glob(f"sub-*/**/*_desc-harmonized_{FEATURES}.json"))
    if not paths:
        raise InputMissing(f"{folder} holds no *_desc-harmonized_{FEATURES}.json; run the participant level first")
    people, found = read_participants(folder), []
    for path in paths:
        person = path.name.split("_")[0]
        row = people.get(person, {})
        about = {name: known(row.get(name, "")) for name in targets}
        about |= {"age": age_of(row), "sex": sex_of(row)}
        site = known(row.get(site_column, "")) or folder.name
        found.append((path, {"subject": f"{folder.name}/{person}", "site": site, **about}))
    return found


def _of_derivative(path: Path) -> Features:
    stored = json.loads(path.read_text(encoding="utf-8"))
    if "Images" not in stored:
        log.warning("%s: no brain was found; left out", path.name)
        return {}
    name = path.name.replace(f"harmonized_{FEATURES}.json", "preproc_T1w.nii.gz")
    preproc, sidecar = path.with_name(name), sidecar_of(path.with_name(name.replace("preproc", "harmonized")))
    if not (preproc.is_file() and sidecar.is_file()):
        return _from_stored(stored)
    brain, mask, _ = cut_brain(preproc)
    target = np.array(json.loads(sidecar.read_text(encoding="utf-8"))["Harmonization"]["ReferenceQuantiles"])
    return features_by_method(stored, brain, mask, well_inside(brain, mask), target)
