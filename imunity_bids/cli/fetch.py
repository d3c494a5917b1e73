"""`imunity-fetch [TEMPLATE …]`: put templates into TemplateFlow's folder, for machines without a network."""

from __future__ import annotations

import argparse
import sys

from imunity_bids import version
from imunity_bids.cli.common import HelpFormatter, Parser, guarded
from imunity_bids.settings import DEFAULT_TEMPLATE


def build_parser() -> Parser:
    """The command line; imports nothing heavy."""
    parser = Parser(
        "imunity-fetch",
        description=__doc__,
        formatter_class=HelpFormatter,
        epilog="The folder is TEMPLATEFLOW_HOME, where imunity looks, too. What is there already is not fetched again.",
    )
    parser.add_argument(
        "templates", nargs="*", default=[DEFAULT_TEMPLATE], metavar="TEMPLATE",
        help="as --template and --output-spaces take it: NAME[:cohort-N][:res-N]",
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"imunity-bids {version()}")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Entry point."""
    options = build_parser().parse_args(arguments)
    return guarded(lambda: _fetch(options), "imunity-fetch")


def _fetch(options: argparse.Namespace) -> None:
    from imunity_bids.bids.spaces import read_space
    from imunity_bids.image.template import grid_of, load_template, template_home

    for name in options.templates:
        space = read_space(name)
        load_template(space.template)  # at 1 mm, whatever grid results are wanted on
        grid = grid_of(space)
        millimetres = " x ".join(f"{size:.3g}" for size in grid.header.get_zooms()[:3])
        print(f"{name} is there: {' x '.join(map(str, grid.shape))} voxels of {millimetres} mm")
    print(f"on the other machine: export TEMPLATEFLOW_HOME={template_home()}")


if __name__ == "__main__":
    sys.exit(main())
