"""`imunity-train unlearn`: a network for a task of one's own that forgets the site."""

from __future__ import annotations

import argparse
from pathlib import Path

from imunity_bids.cli.common import HelpFormatter


def add_unlearn(commands: argparse._SubParsersAction) -> None:
    """The subcommand's options."""
    parser = commands.add_parser(
        "unlearn", help="a network for age, sex, tissues, … that forgets the site", formatter_class=HelpFormatter
    )
    parser.add_argument("derivatives", type=Path, nargs="+", help="of the participant level, with participants.tsv")
    parser.add_argument("output", type=Path, metavar="RUN", help="folder of the run; an interrupted run in it goes on")
    parser.add_argument(
        "--task", required=True, metavar="NAME",
        help="column of participants.tsv; for a segmentation the suffix of the label images, such as dseg",
    )  # fmt: skip
    parser.add_argument("--type", required=True, choices=("regression", "classification", "segmentation"), help="of it")
    parser.add_argument("--unlearn", default="site", metavar="COLUMN", help="the site; without it a folder is one")
    parser.add_argument("--confound", nargs="+", default=[], metavar="COLUMN", help="more columns to forget")
    parser.add_argument(
        "--unlearn-on", default="all", metavar="{all,overlap,balanced,QUERY}",
        help="on whom: all; the range of the outcome that all sites share; a subset in which the outcome does not "
        "follow what is forgotten; or a pandas query on participants.tsv",
    )  # fmt: skip
    parser.add_argument(
        "--labels", type=Path, metavar="DIR", help="dataset with the label images (default: beside them)"
    )
    parser.add_argument("--description", metavar="DESC", help="desc- of the images (default: harmonized, else preproc)")
    parser.add_argument("--place", choices=("A", "B", "AB"), default="A", help="of a U-Net's site classifier (Fig. 5)")
    parser.add_argument(
        "--allow-confounded", action="store_true", help="also where nobody can tell the site from the outcome"
    )
    parser.add_argument(
        "--no-augment", action="store_true",
        help="show every scan as it is, not in another pose and slightly warped each time",
    )  # fmt: skip
    parser.add_argument("--spacing", type=float, default=3.0, metavar="MM", help="of the volumes that the network sees")
    parser.add_argument("--width", type=int, default=8, help="channels of the first block")
    parser.add_argument("--features", type=int, default=8, help="of a volume, from which task and site are told")
    parser.add_argument("--batch", type=int, default=16, help="samples per step, one of each site at least")
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate of the main task")
    parser.add_argument("--alpha", type=float, default=10.0, help="step of the site's classifier, relative to --rate")
    parser.add_argument("--beta", type=float, default=0.4, help="step of confusion, relative to --rate")
    parser.add_argument("--updates", type=int, default=10, help="of the site's classifier in each step")
    parser.add_argument("--pretrain", type=int, default=1000, help="steps before unlearning, at most")
    parser.add_argument("--steps", type=int, default=2000, help="steps of unlearning, at most")
    parser.add_argument("--every", type=int, default=50, help="steps between validations and checkpoints")
    parser.add_argument("--patience", type=int, default=8, help="validations without progress that end a stage")
    parser.add_argument("--tolerance", type=float, default=0.05, help="above chance that counts as forgotten")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same weights")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--license", default="not stated", help="of the model, for its card")
    parser.add_argument("-v", action="count", default=0, dest="verbosity", help="say more")


def run_unlearn(options: argparse.Namespace) -> None:
    """Train and print the model's folder."""
    from imunity_bids.unlearning.train import UnlearnTraining, train_unlearned

    values = {name: value for name, value in vars(options).items() if name not in ("command", "verbosity")}
    setup = UnlearnTraining(
        **{**values, "derivatives": tuple(options.derivatives), "confound": tuple(options.confound)}
    )
    print(train_unlearned(setup))
