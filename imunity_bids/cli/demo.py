"""`imunity-demo OUT`: make a small dataset and run the app on it."""

from __future__ import annotations

import sys
from pathlib import Path

from imunity_bids import version
from imunity_bids.cli.common import HelpFormatter, Parser, guarded


def build_parser() -> Parser:
    """The command line; imports nothing heavy."""
    parser = Parser("imunity-demo", description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("output", type=Path, help="folder; the dataset goes into bids/, the results into derivatives/")
    parser.add_argument("--version", action="version", version=f"imunity-bids {version()}")
    parser.add_argument("--seed", type=int, default=1, help="of the invented heads")
    parser.add_argument("--only-data", action="store_true", help="make the dataset and stop")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Entry point."""
    options, rest = build_parser().parse_known_args(arguments)
    return guarded(lambda: _demo(options.output, options.seed, options.only_data, rest), "imunity-demo")


def _demo(output: Path, seed: int, only_data: bool, rest: list[str]) -> int:
    from imunity_bids.bids.description import is_other_dataset
    from imunity_bids.cli.run import main as run
    from imunity_bids.errors import Usage
    from imunity_bids.image.template import BUILT_IN
    from imunity_bids.simulation.demo import NAME, make_dataset

    dataset, derivatives = output / "bids", output / "derivatives"
    if is_other_dataset(dataset, NAME):
        raise Usage(f"{dataset} holds a dataset that is not the demo; name another folder")
    make_dataset(dataset, seed)
    if only_data:
        return 0
    common = [str(dataset), str(derivatives)]
    code = run([*common, "participant", "--template", BUILT_IN, *rest])
    if code:
        return code
    print(
        f"look at {derivatives / 'sub-02_ses-A.html'} and {derivatives / 'sub-02_ses-B.html'}: one head, two scanners"
    )
    return run([*common, "group"])


if __name__ == "__main__":
    sys.exit(main())
