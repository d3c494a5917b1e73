"""`imunity-predict`: what a network of `imunity-train unlearn` says of new scans."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from imunity_bids import version
from imunity_bids.cli.common import HelpFormatter, Parser, guarded, set_up_logging
from imunity_bids.errors import OK, SOME_FAILED


def build_parser() -> Parser:
    """The command line; imports nothing heavy."""
    parser = Parser("imunity-predict", description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--version", action="version", version=f"imunity-bids {version()}")
    parser.add_argument("model", type=Path, help="folder of a model: RUN/model of imunity-train unlearn")
    parser.add_argument("derivatives", type=Path, nargs="+", help="of the participant level")
    parser.add_argument("output", type=Path, help="dataset to write phenotype/<task>.tsv or *_dseg.nii.gz into")
    parser.add_argument("--description", metavar="DESC", help="desc- of the images (default: harmonized, else preproc)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("-v", action="count", default=0, dest="verbosity", help="say more")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Entry point."""
    options = build_parser().parse_args(arguments)
    set_up_logging(options.verbosity)
    return guarded(lambda: _predict(options), "imunity-predict")


def _predict(options: argparse.Namespace) -> int:
    from imunity_bids.models.device import resolve_device
    from imunity_bids.unlearning.predict import predict

    device = resolve_device(options.device)
    failed = predict(options.model, options.derivatives, options.output, options.description, device)
    return SOME_FAILED if failed else OK


if __name__ == "__main__":
    sys.exit(main())
