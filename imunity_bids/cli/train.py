"""`imunity-train`: train the networks that this app ships, or one's own."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from imunity_bids.cli.common import HelpFormatter, Parser, guarded, set_up_logging, version


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
    brain.add_argument("--start", type=Path, help="best.pt of an earlier run, to begin with its weights")
    brain.add_argument("--batch", type=int, default=1, help="heads per step")
    brain.add_argument("--workers", type=int, default=1, help="processes that simulate heads")
    return parser


def _shared(parser: argparse.ArgumentParser, steps: int) -> None:
    parser.add_argument("output", type=Path, help="folder of the run; an interrupted run in it goes on")
    parser.add_argument("--steps", type=int, default=steps, help="length of the training")
    parser.add_argument("--every", type=int, default=200, help="steps between validations and checkpoints")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same data and start")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
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


_COMMANDS = {"brain": _brain}

if __name__ == "__main__":
    sys.exit(main())
