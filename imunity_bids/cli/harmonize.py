"""`imunity-harmonize IN OUT`: one scan, no dataset; the same steps as the participant level."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from imunity_bids import version
from imunity_bids.cli.common import HelpFormatter, Parser, guarded, set_up_logging
from imunity_bids.cli.options import add_compute, add_models, add_preprocessing, check_values


def build_parser() -> Parser:
    """The command line; imports nothing heavy."""
    parser = Parser("imunity-harmonize", description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("source", type=Path, metavar="IN", help="T1w scan, NIfTI; it stays as it is")
    parser.add_argument("target", type=Path, metavar="OUT", help="harmonized image (.nii or .nii.gz); JSON beside it")
    parser.add_argument("--version", action="version", version=f"imunity-bids {version()}")
    parser.add_argument("-v", "--verbose", action="count", default=0, dest="verbosity", help="say more")
    parser.add_argument(
        "--reference", default="default", metavar="REF",
        help="contrast to harmonize to: a reference of the bundle by its name, or a T1w file",
    )  # fmt: skip
    parser.add_argument("--mask", type=Path, metavar="FILE", help="brain mask of the scan, instead of a computed one")
    parser.add_argument("--lesion", type=Path, metavar="FILE", help="mask of lesions, to be kept out of all estimates")
    parser.add_argument(
        "--output-space", choices=("template", "T1w"), default="template",
        help="grid of OUT: the template's, or the scan's own",
    )  # fmt: skip
    add_models(parser.add_argument_group("model"))
    add_preprocessing(parser.add_argument_group("preprocessing"))
    resources = parser.add_argument_group("resources")
    add_compute(resources)
    resources.add_argument(
        "--omp-nthreads", type=int, metavar="N", help="threads (default: the cores allowed, up to 8)"
    )
    resources.add_argument("--random-seed", type=int, default=1, metavar="N", help="of the registration's sampling")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Entry point."""
    options = build_parser().parse_args(arguments)
    set_up_logging(options.verbosity)
    return guarded(lambda: _harmonize(options), "imunity-harmonize")


def _harmonize(options: argparse.Namespace) -> None:
    check_values(options)
    from imunity_bids.cli.resources import available_cores
    from imunity_bids.run.one_file import harmonize_file

    values = {name: value for name, value in vars(options).items() if name != "verbosity"}
    values["omp_nthreads"] = values["omp_nthreads"] or min(8, available_cores())
    harmonize_file(values.pop("source"), values.pop("target"), **values)


if __name__ == "__main__":
    sys.exit(main())
