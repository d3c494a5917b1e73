"""From brains to a bundle: three axes, trained on the same simulated visits, and the references that they know."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from joblib import Parallel, delayed

from imunity_bids.errors import Usage
from imunity_bids.harmonize.references import REFERENCE_SLICES, make_reference
from imunity_bids.hashes import digest
from imunity_bids.models.bundle import AnyGenerator, Bundle, Reference, load_bundle, save_bundle
from imunity_bids.models.card import AXES, DEFAULT
from imunity_bids.models.imunity import Generator
from imunity_bids.models.paper import PaperGenerator
from imunity_bids.simulation.visit_volumes import Coarse, Visits, simulate_visits
from imunity_bids.training.biology import read_feature
from imunity_bids.training.checkpoints import Run, weights_to_start_with
from imunity_bids.training.dataset import Brain
from imunity_bids.training.harmonizer import Data, HarmonizerTraining, train_harmonizer
from imunity_bids.training.paper import PaperTraining, train_paper
from imunity_bids.training.persons import content_of, make_persons
from imunity_bids.training.real_slices import RealSlices
from imunity_bids.training.visit_batches import VisitBatches

REFERENCE_BRAINS = 10  # per site, as at the participant level
VALIDATION_VISITS = 400
FIGURES = ("step", "held_out", "matching", "untouched", "expected", "site_accuracy")  # for the card


class _Simulated(NamedTuple):
    persons: list[Coarse]
    visits: Visits


@dataclass(frozen=True)
class BundleTraining:
    """What decides a bundle, beside the brains.

    The default reference is that of `default_site` (the first one's, where there is none). Our generators learn from so
    many simulated `visits`. Where `axes.start` is a bundle's folder, each axis starts from its own axis there.
    """

    axes: HarmonizerTraining | PaperTraining  # its axis is not used, its output is the folder of the whole run
    name: str = "own"
    version: str = "1"
    template: str = "MNI152NLin2009cAsym"
    license: str = "not stated"
    default_site: str | None = None
    visits: int = 10_000
    biology: tuple[str, ...] = ()  # columns of participants.tsv that the anatomy codes shall keep
    jobs: int = 1  # axes that are trained at the same time
    command: str = ""


def train_bundle(
    plan: BundleTraining,
    brains: list[Brain],
    sites: list[str],
    held_out: list[Brain],
    reference_brains: list[Brain] | None = None,
) -> Path:
    """Train all axes, export them as a bundle and return its folder; an interrupted run goes on.

    Parameters
    ----------
    brains, held_out
        To train on and to validate on.
    sites
        Their names, by number.
    reference_brains
        That the references are made of; the training's where there are none.

    Raises
    ------
    Usage
        A default site that does not exist, or a feature that no brain has: before anything is trained.
    """
    default_site = plan.default_site or sites[0]
    if default_site not in sites:
        raise Usage(f"--default-site {default_site}: no such site; there are: {', '.join(sites)}")
    if plan.axes.start and plan.axes.start.is_dir():
        started = load_bundle(plan.axes.start).generators[AXES[0]]
        plan = replace(plan, axes=replace(plan.axes, architecture=started.architecture))
    if isinstance(plan.axes, HarmonizerTraining):
        _simulate(plan, brains, held_out)
    done = Parallel(n_jobs=plan.jobs)(delayed(_one_axis)(plan, axis, brains, len(sites), held_out) for axis in AXES)
    generators = {axis: _load(plan, weights) for axis, (weights, _) in zip(AXES, done, strict=True)}
    measured = {axis: figures for axis, (_, figures) in zip(AXES, done, strict=True)}
    bundle = Bundle({}, generators, {})
    shown = brains if reference_brains is None else reference_brains
    references = {site: _site_reference(number, site, shown, bundle) for number, site in enumerate(sites)}
    references[DEFAULT] = replace(references[default_site], label=DEFAULT)
    card = bundle_card(plan, brains, sites, held_out, default_site, measured)
    card["references_made_of"] = {
        site: [brain.name for brain in _members(number, shown)] for number, site in enumerate(sites)
    }
    save_bundle(plan.axes.output / "bundle", Bundle(card, generators, references))
    return plan.axes.output / "bundle"


def _simulate(plan: BundleTraining, brains: list[Brain], held_out: list[Brain]) -> tuple[_Simulated, _Simulated]:
    """Persons and their visits, to learn from and to validate on; what is in the run's folder is read."""
    output, seed = plan.axes.output, plan.axes.seed
    chosen = digest([[content_of(brain) for brain in (*brains, *held_out)], plan.visits, seed])[:12]
    parts = ((brains, plan.visits, chosen, seed), (held_out, VALIDATION_VISITS, f"{chosen}-held-out", seed + 1))
    simulated = []
    for part, count, name, number in parts:
        persons = make_persons(part, output / "persons", plan.jobs)
        visits = simulate_visits(persons, min(count, plan.visits), output / "visits" / name, number, plan.jobs)
        simulated.append(_Simulated(persons, visits))
    return tuple(simulated)


def _one_axis(
    plan: BundleTraining, axis: str, brains: list[Brain], sites: int, held_out: list[Brain]
) -> tuple[Path, dict[str, Any]]:
    """The best weights of an axis, and what was measured while it was trained."""
    if plan.jobs > 1:
        torch.set_num_threads(1)
    start = plan.axes.start
    if start and start.is_dir():
        start = start / f"{axis}.safetensors"
    setup = replace(plan.axes, axis=axis, output=plan.axes.output / axis, start=start)
    features = tuple(read_feature(name, brains) for name in plan.biology)
    if isinstance(setup, HarmonizerTraining):
        known, unseen = _simulate(plan, brains, held_out)
        visits, judged = (VisitBatches(*simulated, axis) for simulated in (known, unseen))
        asked = (sites > 1 and setup.unlearn) or features
        real = RealSlices(visits.stacks, [brain.site for brain in brains], setup.seed) if asked else None
        weights = train_harmonizer(setup, Data(visits, judged, real, features))
    else:
        weights = train_paper(setup, brains, sites, held_out, features)
    run = Run(setup.output)
    run.load()
    best = min(run.rows, key=lambda row: row["held_out"])
    figures = {name: round(best[name], 5) for name in FIGURES if name in best}
    return weights, {"steps": setup.steps, "hours": round(run.seconds / 3600, 2), "best": figures}


def _load(plan: BundleTraining, weights: Path) -> AnyGenerator:
    kind = Generator if isinstance(plan.axes, HarmonizerTraining) else PaperGenerator
    generator = kind(plan.axes.architecture)
    generator.load_state_dict(weights_to_start_with(weights))
    return generator.eval().requires_grad_(False)


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
    own = ("output", "start", "axis", "architecture")  # of one machine or one axis, or told elsewhere
    training = {
        "brains": dict(counts),
        "held_out": [brain.name for brain in held_out],
        "setup": {name: value for name, value in asdict(plan.axes).items() if name not in own},
        "biology": list(plan.biology),
        "torch": torch.__version__,
        "command": plan.command,
        "axes": measured,
    }
    if isinstance(plan.axes, HarmonizerTraining):
        training["visits"] = plan.visits
    return {
        "name": plan.name,
        "version": plan.version,
        "license": plan.license,
        "template": plan.template,
        "intensity": "white-matter peak at 0.7 in [0, 1], 0 outside the brain",
        "default_reference": default_site,
        "training": training,
    }


def _site_reference(number: int, site: str, brains: list[Brain], bundle: Bundle) -> Reference:
    """Mean over the first brains of a site."""
    members = _members(number, brains)
    volumes = [(brain.volume.float().numpy(), (brain.volume > 0).numpy()) for brain in members]
    content = hashlib.sha256("".join(brain.name for brain in members).encode()).hexdigest()
    return make_reference(site, "bundle", content, volumes, bundle, REFERENCE_SLICES)


def _members(number: int, brains: list[Brain]) -> list[Brain]:
    """The first brains of a site."""
    return [brain for brain in brains if brain.site == number][:REFERENCE_BRAINS]
