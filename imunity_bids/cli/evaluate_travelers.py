"""`imunity-evaluate travelers`: harmonization against the truth, on simulated scanners and real traveling subjects."""

from __future__ import annotations

import argparse
from pathlib import Path

from imunity_bids.cli.common import HelpFormatter
from imunity_bids.settings import DEFAULT_TEMPLATE


def add_travelers(commands: argparse._SubParsersAction) -> None:
    """The subcommand's options."""
    parser = commands.add_parser(
        "travelers", help="harmonization against the truth, beside the baselines", formatter_class=HelpFormatter
    )
    parser.add_argument("output", type=Path, help="folder for tables and plots")
    parser.add_argument("--brains", type=Path, help="derivatives whose brains travel through simulated scanners")
    parser.add_argument("--include", nargs="+", default=[], metavar="GLOB", help="paths below --brains (default: all)")
    parser.add_argument(
        "--pairs", type=Path,
        help="TSV of real scans of one person: paths of white-striped brains in columns source, target, reference",
    )  # fmt: skip
    parser.add_argument(
        "--bids-dir", type=Path, metavar="DIR",
        help="real traveling subjects: a dataset whose participants were on several scanners",
    )  # fmt: skip
    parser.add_argument(
        "--derivatives", type=Path, metavar="DIR",
        help="of the participant level on --bids-dir (default: it is run, into OUTPUT/derivatives)",
    )  # fmt: skip
    parser.add_argument(
        "--template", default=DEFAULT_TEMPLATE, metavar="NAME", help="that the participant level is run with"
    )
    parser.add_argument(
        "--scanner-from", default="session", metavar="SOURCE",
        help="what tells the scanner in --bids-dir: session (the label without the number of a visit), sidecar, or a "
        "column of sessions.tsv or scans.tsv",
    )  # fmt: skip
    parser.add_argument(
        "--target-scanner", default="", metavar="NAME", help="to harmonize to (default: where most persons were)"
    )
    parser.add_argument(
        "--same-person", action="store_true",
        help="the reference is the person's own scan on the target scanner, as in the paper, instead of others' there",
    )  # fmt: skip
    parser.add_argument(
        "--scanners", nargs="+", default=[], metavar="NAME", help="simulated scanners to travel between (default: all)"
    )
    parser.add_argument(
        "--sources", type=int, default=0, metavar="N",
        help="of every person so many random scanners, each to two others and to itself (default: all ways)",
    )  # fmt: skip
    parser.add_argument(
        "--references", type=int, default=0, metavar="N",
        help="so many other persons on the target scanner are the reference, for every method (default: all others)",
    )  # fmt: skip
    parser.add_argument("--model", default="imunity", help="bundle: name or folder")
    parser.add_argument("--seed", type=int, default=1, help="of the visits")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("-v", action="count", default=0, dest="verbosity", help="say more")


def run_travelers(options: argparse.Namespace) -> int:
    """Evaluate on whatever was given, and print; the code of the participant level where that had to run and failed."""
    from imunity_bids.errors import Usage
    from imunity_bids.models.card import find_bundle

    if not (options.brains or options.pairs or options.bids_dir):
        raise Usage("nothing to evaluate on: give --bids-dir, --brains or --pairs")
    model = find_bundle(options.model)
    if options.brains:
        _simulated(options, model)
    if options.pairs:
        from imunity_bids.evaluation.traveling_pairs import evaluate_pairs

        print(evaluate_pairs(options.pairs, model, options.output).round(4).to_string(index=False))
    return _real(options, model) if options.bids_dir else 0


def _simulated(options: argparse.Namespace, model: Path) -> None:
    import json

    from imunity_bids.evaluation import travelers
    from imunity_bids.evaluation.plots import plot_travelers

    paths = travelers.brains_below(options.brains, options.include)
    scanners = travelers.scanners_named(options.scanners)
    summary = travelers.evaluate_travelers(
        paths, model, options.output, options.seed, options.jobs, scanners, options.sources, options.references
    )
    plot_travelers(options.output)
    print(json.dumps(summary, indent=2))


def _real(options: argparse.Namespace, model: Path) -> int:
    """A dataset of traveling subjects: the participant level first, unless somebody ran it."""
    from imunity_bids.cli.run import main as run
    from imunity_bids.errors import SOME_FAILED
    from imunity_bids.evaluation.plots import plot_pairs
    from imunity_bids.evaluation.traveling_pairs import evaluate_dataset, trips_of

    derivatives, code = options.derivatives, 0
    if not derivatives:
        derivatives = options.output / "derivatives"
        words = [options.bids_dir, derivatives, "participant", "--model", model, "--template", options.template]
        words += ["--nprocs", options.jobs]
        code = run([str(word) for word in words])
        if code not in (0, SOME_FAILED):
            return code
    trips = trips_of(options.bids_dir, derivatives, options.scanner_from)
    table = evaluate_dataset(
        trips, model, options.output, options.target_scanner, options.same_person, options.references, options.jobs
    )
    plot_pairs(options.output)
    print(table.to_string(index=False, float_format="{:.4g}".format))
    return code
