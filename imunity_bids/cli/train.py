"""`imunity-train`: train the networks that this app ships, or one's own."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from imunity_bids import version
from imunity_bids.cli.common import HelpFormatter, Parser, guarded, set_up_logging
from imunity_bids.cli.train_unlearn import add_unlearn, run_unlearn
from imunity_bids.settings import as_typed


def build_parser() -> Parser:
    """The command line; imports nothing heavy."""
    parser = Parser("imunity-train", description=__doc__)
    parser.add_argument("--version", action="version", version=f"imunity-bids {version()}")
    commands = parser.add_subparsers(dest="command", required=True)
    brain = commands.add_parser("brain", help="the brain extraction network", formatter_class=HelpFormatter)
    brain.add_argument("maps", type=Path, help="folder of whole-head label maps (SynthSeg's numbers, NIfTI)")
    _shared(brain, steps=3800)
    brain.add_argument("--holdout", type=int, default=4, help="label maps, the last by name, kept for validation")
    brain.add_argument("--validation-heads", type=int, default=12, help="simulated heads per validation")
    brain.add_argument("--start", type=Path, help="weights to begin with: best.pt of a run, or a model's safetensors")
    brain.add_argument("--batch", type=int, default=1, help="heads per step")
    brain.add_argument("--rate", type=float, default=1e-3, help="highest learning rate")
    brain.add_argument("--workers", type=int, default=1, help="processes that simulate heads")
    _add_harmonizer(commands)
    add_unlearn(commands)
    return parser


def _add_harmonizer(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("harmonizer", help="a bundle of ImUnity models", formatter_class=HelpFormatter)
    parser.add_argument(
        "brains", type=Path, nargs="+",
        help="derivatives of the participant level, or folders of white-striped volumes",
    )  # fmt: skip
    _shared(parser, steps=20_000)
    parser.add_argument("--name", default="own", help="of the bundle")
    parser.add_argument("--bundle-version", default="1", help="of the bundle, for its card")
    parser.add_argument(
        "--license", default="not stated", help="of the bundle, for its card; an SPDX name, such as CC0-1.0"
    )
    parser.add_argument("--template", default="MNI152NLin2009cAsym", help="space of the brains, for the card")
    parser.add_argument("--site-column", default="site", help="of participants.tsv; without it a folder is a site")
    parser.add_argument("--default-site", metavar="NAME", help="whose contrast is the default reference (the first's)")
    parser.add_argument(
        "--references", type=Path, nargs="+", metavar="DERIVATIVES",
        help="of the same sites, in the same order: what the bundle's references are made of, if not the brains",
    )  # fmt: skip
    parser.add_argument("--exclude", nargs="+", default=[], metavar="GLOB", help="paths to leave for a test")
    parser.add_argument("--holdout", type=int, default=2, help="brains per site, the last by name, for validation")
    parser.add_argument(
        "--visits", type=int, default=10_000,
        help="simulated scans that the generators learn from; half a megabyte of the run's folder each",
    )  # fmt: skip
    parser.add_argument("--jobs", type=int, default=1, help="processes: persons, their scans, and axes at a time")
    parser.add_argument(
        "--biology", nargs="+", default=[], metavar="COLUMN",
        help="columns of participants.tsv that the anatomy code shall keep, such as age and sex",
    )  # fmt: skip
    parser.add_argument("--no-unlearning", action="store_true", help="leave the site head out")
    parser.add_argument("--adversarial", type=float, metavar="WEIGHT", help="of the adversary, beside an L1 of 1 (0)")
    parser.add_argument("--rate", type=float, default=1e-3, help="highest learning rate")
    parser.add_argument("--start", metavar="BUNDLE", help="what to fine-tune: a bundle, by name or folder")
    paper = parser.add_argument_group("the paper's generator, which paints slices from codes and learns from γ alone")
    paper.add_argument("--paper", action="store_true", help="train it instead of ours")
    paper.add_argument("--preset", choices=("paper", "code"), default="paper", help="weights of the losses")
    paper.add_argument("--ssim", type=float, metavar="WEIGHT", help="of the SSIM term (default: the preset's)")
    paper.add_argument("--spatial-contrast", action="store_true", help="do not pool the contrast code")
    paper.add_argument("--batch", type=int, default=16, help="slices per step")
    paper.add_argument("--crop", type=int, default=128, help="pixels of a crop, a multiple of 16")


def _shared(parser: argparse.ArgumentParser, steps: int) -> None:
    parser.add_argument("output", type=Path, help="folder of the run; an interrupted run in it goes on")
    parser.add_argument("--steps", type=int, default=steps, help="length of the training")
    parser.add_argument("--every", type=int, default=200, help="steps between validations and checkpoints")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same data and start")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument(
        "--precision", choices=("float32", "bfloat16"), default="float32",
        help="of the forward pass; bfloat16 takes up to half of the time where the processor knows it",
    )  # fmt: skip
    parser.add_argument("-v", action="count", default=0, dest="verbosity", help="say more")


def main(arguments: list[str] | None = None) -> int:
    """Entry point."""
    options = build_parser().parse_args(arguments)
    set_up_logging(options.verbosity)
    return guarded(lambda: _COMMANDS[options.command](options), "imunity-train")


def _brain(options: argparse.Namespace) -> None:
    from imunity_bids.training.brain import BrainTraining, export_brain, train_brain

    values = {name: value for name, value in vars(options).items() if name not in ("command", "verbosity")}
    setup = BrainTraining(**values)
    print(export_brain(train_brain(setup), setup))


def _harmonizer(options: argparse.Namespace) -> None:
    from imunity_bids.errors import Usage
    from imunity_bids.training.assemble import BundleTraining, train_bundle
    from imunity_bids.training.dataset import hold_out, load_brains

    brains, sites = load_brains(options.brains, options.site_column, options.exclude)
    plan = BundleTraining(
        _axes(options),
        name=options.name,
        version=options.bundle_version,
        template=options.template,
        license=options.license,
        default_site=options.default_site,
        visits=options.visits,
        biology=tuple(options.biology),
        jobs=options.jobs,
        command=as_typed(
            ["imunity-train harmonizer", *(path.name for path in options.brains), "RUN"],
            vars(options),
            vars(build_parser().parse_args(["harmonizer", "", ""])),
            ("brains", "output", "verbosity", "jobs", "device"),
        ),
    )
    training, held_out = hold_out(brains, options.holdout)
    shown = options.references and load_brains(options.references, options.site_column, options.exclude)
    if shown and shown[1] != sites:
        raise Usage(f"--references: their sites are {', '.join(shown[1])}, those of the brains {', '.join(sites)}")
    print(train_bundle(plan, training, sites, held_out, shown[0] if shown else None))


def _axes(options: argparse.Namespace):
    """What decides the weights of every axis: a `HarmonizerTraining` or a `PaperTraining`."""
    from dataclasses import replace

    from imunity_bids.models.card import find_bundle
    from imunity_bids.models.paper import PaperArchitecture
    from imunity_bids.training.harmonizer import CurveWeights, HarmonizerTraining
    from imunity_bids.training.losses import PRESETS
    from imunity_bids.training.paper import PaperTraining

    shared = {
        "output": options.output,
        "axis": "",
        "unlearn": not options.no_unlearning,
        "steps": options.steps,
        "rate": options.rate,
        "every": options.every,
        "seed": options.seed,
        "device": options.device,
        "precision": options.precision,
        "start": None if options.start is None else find_bundle(options.start),
    }
    if not options.paper:
        return HarmonizerTraining(**shared, weights=CurveWeights(adversarial=options.adversarial or 0.0))
    given = {"ssim": options.ssim, "adversarial": options.adversarial}
    weights = replace(PRESETS[options.preset], **{name: value for name, value in given.items() if value is not None})
    architecture = PaperArchitecture(pooled_contrast=not options.spatial_contrast)
    return PaperTraining(**shared, architecture=architecture, weights=weights, batch=options.batch, crop=options.crop)


_COMMANDS = {"brain": _brain, "harmonizer": _harmonizer, "unlearn": run_unlearn}

if __name__ == "__main__":
    sys.exit(main())
