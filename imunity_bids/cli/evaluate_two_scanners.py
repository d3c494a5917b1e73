"""`imunity-evaluate two-scanners`: what methods make of two simulated scanners; CycleGAN is trained on them."""

from __future__ import annotations

import argparse
from pathlib import Path

from imunity_bids.cli.common import HelpFormatter


def add_two_scanners(commands: argparse._SubParsersAction) -> None:
    """The subcommand's options."""
    parser = commands.add_parser(
        "two-scanners",
        help="CycleGAN, ours and the baselines from one scanner to another",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("output", type=Path, help="folder for two_scanners.{tsv,json}; trainings go on where they were")
    parser.add_argument("--maps", type=Path, required=True, metavar="DIR", help="label maps, of which persons are made")
    parser.add_argument(
        "--scanners", nargs=2, default=["SPGR-3T", "MPRAGE-1.5T"], metavar=("FROM", "TO"), help="simulated ones"
    )
    parser.add_argument("--persons", type=int, default=40, metavar="N", help="to learn from, and to judge by")
    parser.add_argument("--held-out", type=int, default=6, metavar="N", help="label maps whose persons are judged")
    parser.add_argument("--spacing", type=float, default=1.0, metavar="MM", help="of the scans")
    parser.add_argument("--steps", type=int, default=1000, help="of CycleGAN's training")
    parser.add_argument("--seeds", type=int, default=2, help="so many CycleGANs are trained")
    parser.add_argument("--seed", type=int, default=1, help="of the persons")
    parser.add_argument("--model", default="imunity", help="bundle: name or folder")
    parser.add_argument("-v", action="count", default=0, dest="verbosity", help="say more")


def run_two_scanners(options: argparse.Namespace) -> None:
    """Evaluate and print the table."""
    from imunity_bids.evaluation.travelers import scanners_named
    from imunity_bids.evaluation.two_scanners import Contest, evaluate_two_scanners
    from imunity_bids.models.card import find_bundle

    known = {scanner.name: scanner for scanner in scanners_named(options.scanners)}
    source, target = (known[name] for name in options.scanners)
    contest = Contest(
        (source, target), options.persons, options.held_out, options.spacing, options.steps, options.seeds, options.seed
    )
    table = evaluate_two_scanners(options.maps, find_bundle(options.model), options.output, contest)
    print(table.round(4).to_string(index=False))
