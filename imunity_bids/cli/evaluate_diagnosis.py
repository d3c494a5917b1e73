"""`imunity-evaluate diagnosis`: is the site gone and the diagnosis found better, before and after harmonization?"""

from __future__ import annotations

import argparse
from pathlib import Path

from imunity_bids.cli.common import HelpFormatter


def add_diagnosis(commands: argparse._SubParsersAction) -> None:
    """The subcommand's options."""
    parser = commands.add_parser(
        "diagnosis", help="is a diagnosis found better, and is the site gone?", formatter_class=HelpFormatter
    )
    parser.add_argument("output", type=Path, help="folder for diagnosis.{tsv,json,png}; goes on where it was")
    parser.add_argument(
        "derivatives", type=Path, nargs="*",
        help="of the participant level: images before and after; a site per folder unless participants.tsv has one",
    )  # fmt: skip
    parser.add_argument(
        "--maps", type=Path, metavar="DIR", help="label maps: a simulated cohort with a planted diagnosis"
    )
    parser.add_argument("--persons", type=int, default=20, metavar="N", help="of each simulated site")
    parser.add_argument(
        "--shares", type=float, nargs="+", default=[0.25, 0.5, 0.75, 0.5], metavar="SHARE",
        help="of patients, one for each simulated site",
    )  # fmt: skip
    parser.add_argument(
        "--widening", type=float, default=2.0, metavar="MM", help="by which simulated patients' ventricles are wider"
    )
    parser.add_argument(
        "--ages", type=float, nargs=2, default=[20.0, 80.0], metavar=("FROM", "TO"), help="of simulated persons"
    )
    parser.add_argument("--spacing", type=float, default=1.0, metavar="MM", help="of the simulated scans")
    parser.add_argument("--seed", type=int, default=1, help="of the simulated persons")
    parser.add_argument("--model", default="imunity", help="bundle that harmonizes the simulated scans")
    parser.add_argument(
        "--combinations", type=int, default=55, metavar="N",
        help="of sites, at most, of each size from 2 on (figure 5 of the paper; 0: none)",
    )  # fmt: skip
    parser.add_argument(
        "--table", type=Path, nargs="+", default=[], metavar="FILE",
        help="CSV or TSV, a row per person: subject, site, age, sex, the target, and features",
    )  # fmt: skip
    parser.add_argument(
        "--target", nargs="+", default=["dx", "age"], metavar="COLUMN",
        help="what is told: a column of two values (AUC), or of numbers (mean error)",
    )  # fmt: skip
    parser.add_argument("--features", default="f_*", metavar="GLOB", help="names of the tables' features")
    parser.add_argument("--site-column", default="site", metavar="COLUMN", help="where the site stands")
    parser.add_argument("--methods", nargs="+", default=[], metavar="NAME", help="methods on features (default: all)")
    parser.add_argument("--folds", type=int, default=10, help="of the cross-validations")
    parser.add_argument("--seeds", type=int, default=5, help="each decides folds and starts")
    parser.add_argument("--jobs", type=int, default=1, help="seeds that are done at the same time")
    parser.add_argument("-v", action="count", default=0, dest="verbosity", help="say more")


def run_diagnosis(options: argparse.Namespace) -> None:
    """Evaluate and print the table."""
    from imunity_bids.errors import Usage
    from imunity_bids.evaluation import diagnosis, diagnosis_images
    from imunity_bids.evaluation.planted import Plan
    from imunity_bids.models.card import find_bundle

    if not (options.table or options.derivatives or options.maps):
        raise Usage("nothing to evaluate on: give folders of derivatives, --table or --maps")
    if options.folds < 2 or options.seeds < 1:
        raise Usage("--folds must be 2 at least, --seeds 1")
    output, targets, site, methods = options.output, options.target, options.site_column, options.methods
    protocol = diagnosis.Protocol(folds=options.folds, seeds=options.seeds, jobs=options.jobs)
    most = options.combinations
    rows = diagnosis.table_rows(options.table, output, targets, options.features, site, methods, protocol)
    if options.derivatives:
        rows += diagnosis_images.derivative_rows(options.derivatives, output, targets, site, methods, protocol, most)
    if options.maps:
        plan = Plan(
            options.persons, tuple(options.shares), options.widening, options.spacing, options.seed, tuple(options.ages)
        )
        rows += diagnosis_images.planted_rows(
            options.maps, find_bundle(options.model), plan, output, methods, protocol, most
        )
    print(diagnosis.write_results(rows, output).round(3).to_string(index=False))
