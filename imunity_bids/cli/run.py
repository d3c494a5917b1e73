"""`imunity BIDS_DIR OUTPUT_DIR {participant,group}`: the BIDS App."""

from __future__ import annotations

import sys

from imunity_bids.cli.common import guarded, set_up_logging


def main(arguments: list[str] | None = None) -> int:
    """Entry point."""
    return guarded(lambda: _run(arguments), "imunity")


def _run(arguments: list[str] | None) -> int:
    from imunity_bids.cli.parser import parse

    settings = parse(arguments)
    set_up_logging(settings.verbosity)
    if settings.level == "group":
        from imunity_bids.run.levels import group_level

        return group_level(settings)
    from imunity_bids.run.levels import participant_level

    return participant_level(settings)


if __name__ == "__main__":
    sys.exit(main())
