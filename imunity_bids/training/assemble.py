"""From brains to a bundle: three axes, each starting from the one before, and the references that they know."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import torch

from imunity_bids.errors import Usage
from imunity_bids.harmonize.references import make_reference
from imunity_bids.models.bundle import Bundle, load_bundle, save_bundle
from imunity_bids.models.card import AXES, DEFAULT
from imunity_bids.models.imunity import Generator
from imunity_bids.training.harmonizer import HarmonizerTraining, train_harmonizer
from imunity_bids.training.histogram import make_people, train_histogram
from imunity_bids.training.run import Run
from imunity_bids.training.slices import Brain, check_batch_size
from imunity_bids.training.uncertainty import train_error

REFERENCE_BRAINS = 10  # per site, as at the participant level
REFERENCE_SLICES = 9


def train_bundle(
    setup: HarmonizerTraining,
    brains: list[Brain],
    sites: list[str],
    judges: list[Brain],
    name: str,
    template: str,
    later_steps: int | None = None,
    default_site: str | None = None,
    visits: int = 0,
    jobs: int = 1,
) -> Path:
    """Train the histogram network, the three axes behind it and the error network; export them as a bundle and return
    its folder.

    All goes into `setup.output`. The second and third axis start from the one before and may take fewer steps. The
    default reference is the named site's, or the first one's. The histogram network learns from so many simulated
    `visits`; with 0 there is none, and no error network. Where `setup.start` is a bundle's folder, each axis starts
    from its own axis there, and the two other networks, which have seen more persons than a lab has, are taken over.
    """
    default_site = default_site or sites[0]
    if default_site not in sites:
        raise Usage(f"--default-site {default_site}: no such site; there are: {', '.join(sites)}")
    check_batch_size(setup.batch, len(sites))
    histogram, error_network, others = None, None, {}
    persons = setup.output / "histogram"
    fine_tuned = load_bundle(setup.start) if setup.start and setup.start.is_dir() else None
    if fine_tuned is not None:
        histogram, error_network = fine_tuned.histogram, fine_tuned.error
        setup = replace(setup, architecture=fine_tuned.generators[AXES[0]].architecture)
    elif visits and setup.architecture.prematch:
        histogram, errors = train_histogram(brains, judges, persons, visits, seed=setup.seed, jobs=jobs)
        others["histogram"] = {"visits": visits, "error_on_held_out_persons": errors}
    generators, figures = {}, {}
    start, steps = setup.start, setup.steps
    for axis in ("axial", "coronal", "sagittal"):
        one = replace(setup, axis=axis, output=setup.output / axis, start=start, steps=steps)
        if fine_tuned is not None:
            one = replace(one, start=setup.start / f"{axis}.safetensors")
        steps = later_steps or setup.steps
        start = train_harmonizer(one, brains, len(sites), judges, histogram)
        generators[axis] = Generator(setup.architecture).eval()
        generators[axis].load_state_dict(torch.load(start, weights_only=True)["weights"])
        run = Run(one.output)
        run.load()
        figures[axis] = {
            "steps": one.steps,
            "hours": round(run.seconds / 3600, 2),
            "l1_on_held_out_brains": min(row["judge"] for row in run.rows),
        }
    bundle = Bundle({}, {axis: generators[axis] for axis in AXES}, {}, histogram, error_network)
    if fine_tuned is None and histogram is not None:
        known, unseen = (make_people(part, persons, jobs) for part in (brains, judges))
        error_network, ranks = train_error(known, unseen, bundle, setup.output / "error", setup.seed, jobs)
        others["error"] = {"rank_correlation_on_held_out_persons": ranks}
    references = {site: _site_reference(index, site, brains, bundle) for index, site in enumerate(sites)}
    references[DEFAULT] = replace(references[default_site], label=DEFAULT)
    counts = Counter(sites[brain.site] for brain in brains)
    card = {
        "name": name,
        "version": "0.1",
        "license": "Apache-2.0",
        "template": template,
        "intensity": "white-matter peak at 0.7 in [0, 1], 0 outside the brain",
        "default_reference": default_site,
        "training": {
            "brains": dict(counts),
            "held_out": [brain.name for brain in judges],
            "setup": {k: v for k, v in asdict(setup).items() if k not in ("output", "start", "axis")},
            "torch": torch.__version__,
            "axes": figures,
            **others,
        },
    }
    folder = setup.output / "bundle"
    save_bundle(folder, Bundle(card, generators, references, histogram, error_network))
    return folder


def _site_reference(index: int, site: str, brains: list[Brain], bundle: Bundle):
    members = [brain for brain in brains if brain.site == index][:REFERENCE_BRAINS]
    volumes = [(brain.volume.float().numpy(), (brain.volume > 0).numpy()) for brain in members]
    digest = hashlib.sha256("".join(brain.name for brain in members).encode()).hexdigest()
    return make_reference(site, "bundle", digest, volumes, bundle, REFERENCE_SLICES)
