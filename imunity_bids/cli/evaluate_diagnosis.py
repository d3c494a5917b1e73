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
    from imunity_bids.evaluation.diagnosis import Protocol, evaluate_tables

    if not options.table:
        raise Usage("nothing to evaluate on: give --table")
    if options.folds < 2 or options.seeds < 1:
        raise Usage("--folds must be 2 at least, --seeds 1")
    protocol = Protocol(folds=options.folds, seeds=options.seeds, jobs=options.jobs)
    table = evaluate_tables(
        options.table, options.output, options.target, options.features, options.site_column, options.methods, protocol
    )
    print(table.round(3).to_string(index=False))
