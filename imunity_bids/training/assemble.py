"""From brains to a bundle: histogram network, three axes, error network, and the references that they know."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from imunity_bids.errors import Usage
from imunity_bids.harmonize.references import REFERENCE_SLICES, make_reference
from imunity_bids.models.bundle import Bundle, Reference, load_bundle, save_bundle
from imunity_bids.models.card import AXES, DEFAULT
from imunity_bids.models.histogram import HistogramNet
from imunity_bids.models.imunity import Generator
from imunity_bids.training.checkpoints import Run, weights_to_start_with
from imunity_bids.training.dataset import Brain
from imunity_bids.training.harmonizer import HarmonizerTraining, train_harmonizer
from imunity_bids.training.histogram import make_people, train_histogram
from imunity_bids.training.pairs import check_batch_size
from imunity_bids.training.uncertainty import train_error

REFERENCE_BRAINS = 10  # per site, as at the participant level
ORDER = ("axial", "coronal", "sagittal")  # in which the axes are trained, each starting from the one before


@dataclass(frozen=True)
class BundleTraining:
    """What decides a bundle, beside the brains.

    The first axis takes `harmonizer.steps`, the later ones `later_steps` (as many, where there is none). The default
    reference is that of `default_site` (the first one's, where there is none). The histogram network learns from so
    many simulated `visits`; with 0 there is none, and no error network. Where `harmonizer.start` is a bundle's folder,
    each axis starts from its own axis there, and the two other networks, which have seen more persons than a lab has,
    are taken over.
    """

    harmonizer: HarmonizerTraining  # of all axes; its output is the folder of the whole run
    name: str = "own"
    template: str = "MNI152NLin2009cAsym"
    license: str = "not stated"
    later_steps: int | None = None
    default_site: str | None = None
    visits: int = 0
    histogram_steps: int = 10_000
    error_steps: int = 8_000
    jobs: int = 1


def train_bundle(plan: BundleTraining, brains: list[Brain], sites: list[str], held_out: list[Brain]) -> Path:
    """Train all networks, export them as a bundle and return its folder; an interrupted run goes on.

    Raises
    ------
    Usage
        More sites than slices in a batch, or a default site that does not exist: before anything is trained.
    """
    check_batch_size(plan.harmonizer.batch, len(sites))
    default_site = plan.default_site or sites[0]
    if default_site not in sites:
        raise Usage(f"--default-site {default_site}: no such site; there are: {', '.join(sites)}")
    start, output = plan.harmonizer.start, plan.harmonizer.output
    persons = output / "histogram"
    measured: dict[str, Any] = {}
    if fine_tuned := load_bundle(start) if start and start.is_dir() else None:
        architecture = fine_tuned.generators[AXES[0]].architecture
        plan = replace(plan, harmonizer=replace(plan.harmonizer, architecture=architecture))
        histogram, error_network = fine_tuned.histogram, fine_tuned.error
    else:
        histogram, error_network = None, None
        if plan.visits and plan.harmonizer.architecture.prematch:
            histogram, errors = train_histogram(
                brains, held_out, persons, plan.visits, plan.histogram_steps, seed=plan.harmonizer.seed, jobs=plan.jobs
            )
            measured["histogram"] = {"visits": plan.visits, "error_on_held_out_persons": errors}
    generators, measured["axes"] = _train_axes(plan, brains, len(sites), held_out, histogram)
    bundle = Bundle({}, generators, {}, histogram, error_network)
    if fine_tuned is None and histogram is not None:
        known, unseen = (make_people(part, persons, plan.jobs) for part in (brains, held_out))
        error_network, ranks = train_error(
            known, unseen, bundle, output / "error", plan.harmonizer.seed, plan.jobs, plan.error_steps
        )
        measured["error"] = {"rank_correlation_on_held_out_persons": ranks}
    references = {site: _site_reference(number, site, brains, bundle) for number, site in enumerate(sites)}
    references[DEFAULT] = replace(references[default_site], label=DEFAULT)
    card = bundle_card(plan, brains, sites, held_out, default_site, measured)
    save_bundle(output / "bundle", Bundle(card, generators, references, histogram, error_network))
    return output / "bundle"


def bundle_card(
    plan: BundleTraining,
    brains: list[Brain],
    sites: list[str],
    held_out: list[Brain],
    default_site: str,
    measured: dict[str, Any],
) -> dict[str, Any]:
    """What a user of the bundle must know: its space, its licence, and how it was trained and `measured`."""
    counts = Counter(sites[brain.site] for brain in brains)
    own = ("output", "start", "axis")  # of one machine or one axis
    return {
        "name": plan.name,
        "version": "0.1",
        "license": plan.license,
        "template": plan.template,
        "intensity": "white-matter peak at 0.7 in [0, 1], 0 outside the brain",
        "default_reference": default_site,
        "training": {
            "brains": dict(counts),
            "held_out": [brain.name for brain in held_out],
            "setup": {name: value for name, value in asdict(plan.harmonizer).items() if name not in own},
            "torch": torch.__version__,
            **measured,
        },
    }


def _train_axes(
    plan: BundleTraining, brains: list[Brain], sites: int, held_out: list[Brain], histogram: HistogramNet | None
) -> tuple[dict[str, Generator], dict[str, dict[str, float]]]:
    """Generators by axis, in the order of `AXES`, and what was measured while they were trained."""
    setup = plan.harmonizer
    generators, measured = {}, {}
    start, steps = setup.start, setup.steps
    for axis in ORDER:
        if setup.start and setup.start.is_dir():
            start = setup.start / f"{axis}.safetensors"
        one_axis = replace(setup, axis=axis, output=setup.output / axis, start=start, steps=steps)
        start = train_harmonizer(one_axis, brains, sites, held_out, histogram)
        generators[axis] = Generator(setup.architecture).eval()
        generators[axis].load_state_dict(weights_to_start_with(start))
        run = Run(one_axis.output)
        run.load()
        measured[axis] = {
            "steps": steps,
            "hours": round(run.seconds / 3600, 2),
            "l1_on_held_out_brains": min(row["held_out"] for row in run.rows),
        }
        steps = plan.later_steps or setup.steps
    return {axis: generators[axis] for axis in AXES}, measured


def _site_reference(number: int, site: str, brains: list[Brain], bundle: Bundle) -> Reference:
    """Mean over the first brains of a site."""
    members = [brain for brain in brains if brain.site == number][:REFERENCE_BRAINS]
    volumes = [(brain.volume.float().numpy(), (brain.volume > 0).numpy()) for brain in members]
    digest = hashlib.sha256("".join(brain.name for brain in members).encode()).hexdigest()
    return make_reference(site, "bundle", digest, volumes, bundle, REFERENCE_SLICES)
