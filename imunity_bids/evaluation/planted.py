"""A simulated cohort with a planted diagnosis: what is to be found is known, and so is what the scanners added.

Patients have wider ventricles than others of their age and nothing else: a focal change, the same on every scanner.
Each person lies in the scanner of one site; sites differ in their share of patients, so that whoever tells the site
tells some of the diagnosis.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from scipy import ndimage

from imunity_bids import version
from imunity_bids.bids.outputs import write_atomically, write_json
from imunity_bids.bids.sites import MOST_OF_A_SITE
from imunity_bids.errors import Usage
from imunity_bids.evaluation.cohort_images import Features, as_table, features_by_method, features_of
from imunity_bids.harmonize.inference import Compute, harmonize
from imunity_bids.harmonize.references import REFERENCE_SLICES, load_reference, make_reference, save_reference
from imunity_bids.hashes import digest, sha256
from imunity_bids.metrics.tissue_ratios import well_inside
from imunity_bids.models.bundle import Bundle, Reference, load_bundle
from imunity_bids.models.card import DEFAULT
from imunity_bids.qc.brain import brain_of
from imunity_bids.qc.features import image_features
from imunity_bids.simulation.cohort import AGES, Member, Traits, draw_traits, family_of, label_maps, scan
from imunity_bids.simulation.scanners import SCANNERS, Scanner

log = logging.getLogger(__name__)
PATIENT, CONTROL = "patient", "control"
ONE_CURVE = "harmonized, one curve for a site"  # `--curve site`
ONE_SCANNER = "all on one scanner (bound)"
SITES = {scanner.name: scanner for scanner in SCANNERS}
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
    ages: tuple[float, float] = AGES  # years, from which they are drawn evenly


class Enlisted(NamedTuple):
    """A person who is to be made."""

    traits: Traits
    site: str
    dx: str

    def about(self) -> dict[str, str | float]:
        """What the table says of this person."""
        return {"site": self.site, "dx": self.dx, "age": self.traits.age, "sex": self.traits.sex}


def planted_table(maps: Path, model: Path, plan: Plan, kept: Path, jobs: int = 1) -> pd.DataFrame:
    """The cohort as `derivative_table` gives a real one, and the bound: the same persons, all on one scanner.

    Parameters
    ----------
    maps
        Folder of whole-head label maps of 1 mm.
    model
        Bundle; harmonized is to its default reference.
    kept
        Folder that keeps each person's features as they are made, so that a killed run goes on.
    """
    paths, people = label_maps(maps), list(planted(plan))
    placed = [(paths[number % len(paths)], one) for number, one in enumerate(people)]
    sites = list(dict.fromkeys(one.site for one in people))
    means = Parallel(n_jobs=jobs)(
        delayed(_site_mean)([(path, one) for path, one in placed if one.site == site], model, plan, kept)
        for site in sites
    )
    curves = dict(zip(sites, means, strict=True))
    families = Parallel(n_jobs=jobs)(
        delayed(_family)(path, people[number :: len(paths)], model, plan, kept, curves)
        for number, path in enumerate(paths)
    )
    return as_table(row for family in families for row in family)


def planted(plan: Plan) -> Iterator[Enlisted]:
    """Traits, site and diagnosis of each person; each site has its share of patients to the nearest whole number.

    Raises
    ------
    Usage
        More sites than scanners, fewer than two, a share that is none, or ages that are not simulated.
    """
    if not 2 <= len(plan.shares) <= len(SCANNERS) or not all(0 <= share <= 1 for share in plan.shares):
        raise Usage(f"--shares takes two to {len(SCANNERS)} numbers from 0 to 1, one for each site")
    if not AGES[0] <= plan.ages[0] < plan.ages[1] <= AGES[1]:
        raise Usage(f"--ages takes two numbers from {AGES[0]:g} to {AGES[1]:g}, the lower one first")
    rng = np.random.default_rng([plan.seed, 3])
    for share, scanner in zip(plan.shares, SCANNERS, strict=False):
        ill = rng.permutation(np.arange(plan.persons) < round(share * plan.persons))
        for patient in ill:
            traits = draw_traits(rng, float(rng.uniform(*plan.ages)))
            widening = traits.widening_mm + plan.widening_mm * bool(patient)
            yield Enlisted(replace(traits, widening_mm=widening), scanner.name, PATIENT if patient else CONTROL)


def _site_mean(people: Sequence[tuple[Path, Enlisted]], model: Path, plan: Plan, kept: Path) -> Path:
    """File of the mean contrast of a site's first persons, each given with its label map."""
    first, bundle = people[:MOST_OF_A_SITE], load_bundle(model)
    known = [(sha256(path), asdict(one.traits)) for path, one in first]
    site = first[0][1].site
    key = digest([site, known, plan.spacing_mm, plan.seed, bundle.card["sha256"], version()])
    file = kept / f"{site}_{key}.safetensors"
    if not file.is_file():
        torch.set_num_threads(1)
        members = (family_of(path, [one.traits], plan.spacing_mm) for path, one in first)
        brains = (_scanned(member, SITES[site], plan) for family in members for member in family)
        mean = make_reference(site, "site", "", brains, bundle, REFERENCE_SLICES)
        write_atomically(file, lambda path: save_reference(mean, path))
    return file


def _family(
    path: Path, people: Sequence[Enlisted], model: Path, plan: Plan, kept: Path, curves: Mapping[str, Path]
) -> list[tuple[Features, dict[str, str | float]]]:
    """Features of the persons of one label map, and what is known of them."""
    bundle, stem = load_bundle(model), path.name.split(".")[0]
    made_by = [plan.spacing_mm, plan.seed, bundle.card["sha256"], sha256(path), version()]
    names = [f"{stem}-{number:03d}" for number in range(len(people))]
    files = [
        kept / f"{name}_{digest([asdict(one.traits), one.site, curves[one.site].name, *made_by])}.json"
        for name, one in zip(names, people, strict=True)
    ]
    if not all(file.is_file() for file in files):
        _keep(files, path, people, bundle, plan, curves)
    return [
        (json.loads(file.read_text(encoding="utf-8")), {"subject": name, "family": stem, **one.about()})
        for name, file, one in zip(names, files, people, strict=True)
    ]


def _keep(
    files: Sequence[Path],
    path: Path,
    people: Sequence[Enlisted],
    bundle: Bundle,
    plan: Plan,
    curves: Mapping[str, Path],
) -> None:
    """Write what is not there yet."""
    torch.set_num_threads(1)
    members = family_of(path, [one.traits for one in people], plan.spacing_mm)
    for file, member, one in zip(files, members, people, strict=True):
        if not file.is_file():
            write_json(file, _features(member, SITES[one.site], bundle, plan, load_reference(curves[one.site])))
            log.info("%s", file.name)


def _features(member: Member, scanner: Scanner, bundle: Bundle, plan: Plan, site: Reference) -> Features:
    reference = bundle.references[DEFAULT]
    target = reference.quantiles.numpy()
    before, mask = _scanned(member, scanner, plan)
    after = harmonize(before, mask, bundle, reference, Compute()).image
    brain = brain_of(before, after, mask)
    found = features_by_method(image_features(brain, target), before, mask, brain.inside, target)
    shared = harmonize(before, mask, bundle, reference, Compute(), site=site).image
    found[ONE_CURVE] = features_of(shared, mask, brain.inside)
    common, mask = _scanned(member, SCANNERS[COMMON], plan)
    return found | {ONE_SCANNER: features_of(common, mask, well_inside(common, mask))}


def _scanned(member: Member, scanner: Scanner, plan: Plan) -> tuple[np.ndarray, np.ndarray]:
    """White-striped brain and its mask, cut to the box around it."""
    mask = member.tissues().numpy() > 0
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    image = np.clip(scan(member, scanner, plan.spacing_mm, plan.seed).float().numpy(), 0, 1) * mask
    return image[box], mask[box]
