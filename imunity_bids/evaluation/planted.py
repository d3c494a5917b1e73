"""A simulated cohort with a planted diagnosis: what is to be found is known, and so is what the scanners added.

Patients have wider ventricles than others of their age and nothing else: a focal change, the same on every scanner.
Each person lies in the scanner of one site; sites differ in their share of patients, so that whoever tells the site
tells some of the diagnosis.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from scipy import ndimage

from imunity_bids.errors import Usage
from imunity_bids.evaluation.cohort_images import Features, as_table, features_by_method, features_of
from imunity_bids.harmonize.inference import Compute, harmonize
from imunity_bids.models.bundle import load_bundle
from imunity_bids.models.card import DEFAULT
from imunity_bids.qc.brain import brain_of
from imunity_bids.qc.features import image_features
from imunity_bids.simulation.cohort import Member, Traits, draw_traits, members_of, scan
from imunity_bids.simulation.scanners import SCANNERS, Scanner

PATIENT, CONTROL = "patient", "control"
ONE_SCANNER = "all on one scanner (bound)"
COMMON = 3  # number of the scanner that the bound is made on


@dataclass(frozen=True)
class Plan:
    """Who lies where.

    Attributes
    ----------
    persons
        Of each site.
    shares
        Of patients, one for each site; as many of `SCANNERS` are used.
    widening_mm
        By which a patient's ventricles are wider: age widens them by 6 mm in 60 years, persons scatter by 0.5 mm.
    spacing_mm
        Of the scans; the app's grid has 1 mm.
    """

    persons: int = 20
    shares: tuple[float, ...] = (0.25, 0.5, 0.75, 0.5)
    widening_mm: float = 2.0
    spacing_mm: float = 1.0
    seed: int = 1


def planted_table(maps: Path, model: Path, plan: Plan, jobs: int = 1) -> pd.DataFrame:
    """The cohort as `derivative_table` gives a real one, and the bound: the same persons, all on one scanner.

    Parameters
    ----------
    maps
        Folder of whole-head label maps of 1 mm.
    model
        Bundle; harmonized is to its default reference.
    """
    about = list(planted(plan))
    members = members_of(maps, [traits for traits, _, _ in about], plan.spacing_mm, jobs)
    scanners = {scanner.name: scanner for scanner in SCANNERS}
    parts = Parallel(n_jobs=jobs)(
        delayed(_features)(member, scanners[site], model, plan)
        for member, (_, site, _) in zip(members, about, strict=True)
    )
    rows = [
        {"subject": m.name, "family": m.label_map, "site": site, "dx": dx, "age": traits.age, "sex": traits.sex}
        for m, (traits, site, dx) in zip(members, about, strict=True)
    ]
    return as_table(zip(parts, rows, strict=True))


def planted(plan: Plan) -> Iterator[tuple[Traits, str, str]]:
    """Traits, site and diagnosis of each person; each site has its share of patients to the nearest whole number.

    Raises
    ------
    Usage
        More sites than scanners, fewer than two, or a share that is none.
    """
    if not 2 <= len(plan.shares) <= len(SCANNERS) or not all(0 <= share <= 1 for share in plan.shares):
        raise Usage(f"--shares takes two to {len(SCANNERS)} numbers from 0 to 1, one for each site")
    rng = np.random.default_rng([plan.seed, 3])
    for share, scanner in zip(plan.shares, SCANNERS, strict=False):
        ill = rng.permutation(np.arange(plan.persons) < round(share * plan.persons))
        for patient in ill:
            traits = draw_traits(rng)
            widening = traits.widening_mm + plan.widening_mm * bool(patient)
            yield replace(traits, widening_mm=widening), scanner.name, PATIENT if patient else CONTROL


def _features(member: Member, scanner: Scanner, model: Path, plan: Plan) -> Features:
    torch.set_num_threads(1)
    bundle = load_bundle(model)
    reference = bundle.references[DEFAULT]
    target = reference.quantiles.numpy()
    before, mask = _scanned(member, scanner, plan)
    after = harmonize(before, mask, bundle, reference, Compute()).image
    found = features_by_method(image_features(brain_of(before, after, mask), target), before, mask, target)
    common, mask = _scanned(member, SCANNERS[COMMON], plan)
    return found | {ONE_SCANNER: features_of(common, mask)}


def _scanned(member: Member, scanner: Scanner, plan: Plan) -> tuple[np.ndarray, np.ndarray]:
    """White-striped brain and its mask, cut to the box around it."""
    mask = member.tissues().numpy() > 0
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    image = np.clip(scan(member, scanner, plan.spacing_mm, plan.seed).float().numpy(), 0, 1) * mask
    return image[box], mask[box]
