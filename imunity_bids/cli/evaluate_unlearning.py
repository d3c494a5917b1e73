"""`imunity-evaluate unlearning`: the experiments of Dinsdale 2020, on persons whose truth is known and on real data."""

from __future__ import annotations

import argparse
from pathlib import Path

from imunity_bids.cli.common import HelpFormatter


def add_unlearning(commands: argparse._SubParsersAction) -> None:
    """The subcommand's options."""
    parser = commands.add_parser(
        "unlearning", help="does unlearning forget the site and keep the task?", formatter_class=HelpFormatter
    )
    parser.add_argument(
        "output", type=Path, help="folder for unlearning.tsv and .json, and pictures; goes on where it was"
    )
    parser.add_argument("--quick", action="store_true", help="smaller and fewer: one seed, in minutes")
    parser.add_argument(
        "--maps", type=Path, metavar="DIR", help="label maps: experiments (a) to (g) on simulated persons"
    )
    parser.add_argument(
        "--tables", type=Path, nargs="+", default=[], metavar="CSV",
        help="real tables: columns subject, site, age, sex and features f_*",
    )  # fmt: skip
    parser.add_argument(
        "--derivatives", type=Path, nargs="+", default=[], metavar="DIR", help="real scans, a site per folder"
    )
    parser.add_argument("--tasks", nargs="+", choices=("age", "sex"), default=["age"], help="on the real scans")
    parser.add_argument("--seed", type=int, default=1, help="of persons, sites and weights")
    parser.add_argument("--jobs", type=int, default=1, help="processes: persons and experiments side by side")
    parser.add_argument("-v", action="count", default=0, dest="verbosity", help="say more")


def run_unlearning(options: argparse.Namespace) -> None:
    """Evaluate and print the table."""
    from imunity_bids.errors import Usage
    from imunity_bids.evaluation.unlearning import evaluate_unlearning

    if not (options.maps or options.tables or options.derivatives):
        raise Usage("nothing to evaluate on: give --maps, --tables or --derivatives")
    values = {name: value for name, value in vars(options).items() if name not in ("command", "verbosity")}
    print(evaluate_unlearning(**values).round(3).to_string(index=False))
