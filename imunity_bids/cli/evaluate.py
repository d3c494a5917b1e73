"""`imunity-evaluate`: measure what this app ships, on data whose truth is known."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from imunity_bids import version
from imunity_bids.cli.common import HelpFormatter, Parser, guarded, set_up_logging
from imunity_bids.cli.evaluate_diagnosis import add_diagnosis, run_diagnosis
from imunity_bids.cli.evaluate_travelers import add_travelers, run_travelers
from imunity_bids.cli.evaluate_two_scanners import add_two_scanners, run_two_scanners
from imunity_bids.cli.evaluate_unlearning import add_unlearning, run_unlearning


def build_parser() -> Parser:
    """The command line; imports nothing heavy."""
    parser = Parser("imunity-evaluate", description=__doc__)
    parser.add_argument("--version", action="version", version=f"imunity-bids {version()}")
    commands = parser.add_subparsers(dest="command", required=True)
    brain = commands.add_parser("brain", help="brain masks against reference masks", formatter_class=HelpFormatter)
    brain.add_argument("output", type=Path, help="folder for brain.tsv and brain.json")
    brain.add_argument("--bids-dir", type=Path, help="T1w scans with reference labels")
    brain.add_argument("--labels", type=Path, help="derivatives with *_dseg or *_mask (required with --bids-dir)")
    brain.add_argument("--maps", type=Path, help="label maps; heads are simulated from the last --holdout of them")
    brain.add_argument("--holdout", type=int, default=4, help="label maps that training did not see")
    brain.add_argument("--per-map", type=int, default=25, help="simulated heads per label map")
    brain.add_argument("--methods", nargs="+", choices=["network", "ants"], default=["network"], help="what to compare")
    brain.add_argument("--brain-model", type=Path, help="model folder instead of the shipped one")
    brain.add_argument("--brain-border", type=float, default=0.0, metavar="MM", help="shift of the mask's edge")
    brain.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    brain.add_argument("-v", action="count", default=0, dest="verbosity", help="say more")
    add_travelers(commands)
    _add_sites(commands)
    _add_references(commands)
    add_diagnosis(commands)
    add_two_scanners(commands)
    add_unlearning(commands)
    return parser


def _add_sites(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "sites", help="how far real sites lie apart in contrast, before and after", formatter_class=HelpFormatter
    )
    parser.add_argument("output", type=Path, help="folder for sites.tsv and sites.json")
    parser.add_argument("derivatives", type=Path, nargs="+", help="of the participant level, one folder per site")
    parser.add_argument("--description", default="harmonized", help="desc- entity of the harmonized images")
    parser.add_argument(
        "--model", nargs="+", default=[], metavar="BUNDLE",
        help="harmonize here and now with these bundles, instead of what the app wrote; the first is what the others "
        "are compared with",
    )  # fmt: skip
    parser.add_argument(
        "--reference-scans", nargs="+", type=Path, default=[], metavar="FILE",
        help="white-striped brains to harmonize to (default: the bundle's reference, or that of the sidecars)",
    )  # fmt: skip
    parser.add_argument("--min-age", type=float, default=0.0, metavar="YEARS", help="leave younger persons out")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("-v", action="count", default=0, dest="verbosity", help="say more")


def _add_references(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "references", help="which scan, or which site's mean, makes a good reference", formatter_class=HelpFormatter
    )
    parser.add_argument("output", type=Path, help="folder for references.tsv, .json and .png")
    parser.add_argument("derivatives", type=Path, nargs="+", help="of the participant level; no image in them is read")
    parser.add_argument("--site-column", default="site", metavar="NAME", help="of participants.tsv and sessions.tsv")
    parser.add_argument("-v", action="count", default=0, dest="verbosity", help="say more")


def main(arguments: list[str] | None = None) -> int:
    """Entry point."""
    options = build_parser().parse_args(arguments)
    set_up_logging(options.verbosity)
    return guarded(lambda: _COMMANDS[options.command](options), "imunity-evaluate")


def _brain(options: argparse.Namespace) -> None:
    from itertools import chain

    from imunity_bids.errors import Usage
    from imunity_bids.evaluation import brain
    from imunity_bids.models.card import BRAIN_NETWORK

    if not options.bids_dir and not options.maps:
        raise Usage("nothing to evaluate on: give --bids-dir, --maps or both")
    if options.bids_dir and not options.labels:
        raise Usage("--bids-dir needs --labels: the derivative dataset with the reference masks")
    cases = []
    if options.bids_dir:
        cases.append(brain.real_cases(options.bids_dir, options.labels))
    if options.maps:
        cases.append(brain.simulated_cases(options.maps, options.holdout, options.per_map))
    make = {
        "network": lambda: brain.network_method(
            options.brain_model or BRAIN_NETWORK, options.brain_border, options.device
        ),
        "ants": brain.ants_method,
    }
    methods = {name: make[name]() for name in options.methods}
    print(brain.evaluate(chain(*cases), methods, options.output).round(4).to_string())


def _sites(options: argparse.Namespace) -> None:
    from imunity_bids.errors import Usage
    from imunity_bids.evaluation.real_sites import evaluate_sites, sites_table
    from imunity_bids.models.card import find_bundle

    if len(options.derivatives) < 2:
        raise Usage("one site cannot be told from another: give two folders of derivatives at least")
    summary = evaluate_sites(
        options.derivatives,
        options.output,
        options.description,
        tuple(find_bundle(name) for name in options.model),
        tuple(options.reference_scans),
        options.min_age,
        options.jobs,
    )
    print(sites_table(summary).round(4).to_string())


def _references(options: argparse.Namespace) -> None:
    from imunity_bids.evaluation.plots import plot_references
    from imunity_bids.evaluation.references import MEASURES, evaluate_references

    ranked = evaluate_references(options.derivatives, options.output, options.site_column)
    plot_references(ranked, options.output)
    shown = ranked[["rank", "reference", "site", "verdict", *MEASURES, "best_rank", "worst_rank"]].head(10)
    print(shown.round(4).to_string(index=False))


_COMMANDS = {
    "brain": _brain,
    "travelers": run_travelers,
    "sites": _sites,
    "references": _references,
    "diagnosis": run_diagnosis,
    "two-scanners": run_two_scanners,
    "unlearning": run_unlearning,
}

if __name__ == "__main__":
    sys.exit(main())
