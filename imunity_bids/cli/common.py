"""What every command shares: how it logs, and how an error becomes one clear line and an exit code."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable

from imunity_bids.errors import OK, DiskError, ImunityError, Usage, is_disk_error

log = logging.getLogger("imunity_bids")


class Parser(argparse.ArgumentParser):
    """argparse with the exit code of sysexits.h for a wrong call."""

    def error(self, message: str) -> None:
        """Usage, one line, 64."""
        self.print_usage(sys.stderr)
        self.exit(Usage.code, f"{self.prog}: {message}\n")


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Says defaults, except where there is none to say."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, False, "", [], argparse.SUPPRESS):
            return action.help
        return super()._get_help_string(action)


def set_up_logging(verbosity: int) -> None:
    """Messages to standard error: what happens; with -v every detail of ours, with -vv Nipype's, too."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    logging.captureWarnings(True)
    log.setLevel([logging.INFO, logging.DEBUG][min(verbosity, 1)])


def guarded(body: Callable[[], int | None], program: str) -> int:
    """Run a command's body; errors that a user can mend end as one line on standard error and their code."""
    try:
        return body() or OK
    except ImunityError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return error.code
    except OSError as error:
        if not is_disk_error(error):
            raise
        where = f": {error.filename}" if error.filename else ""
        print(f"{program}: {error.strerror}{where}; free some space and run again", file=sys.stderr)
        return DiskError.code
    except KeyboardInterrupt:
        print(f"{program}: interrupted; run the same command to go on", file=sys.stderr)
        return 130
