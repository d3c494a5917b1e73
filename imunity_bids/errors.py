"""What can go wrong for a user: each error knows its exit code (BIDS execution specification, sysexits.h).

The message says in one or two lines what was wrong, where, and what to do.
"""

from __future__ import annotations

import errno

OK = 0
SOME_FAILED = 1


class ImunityError(Exception):
    """Base of all errors that a user can cause or mend."""

    code = 1


class NotBids(ImunityError):
    """The input folder is not a BIDS dataset."""

    code = 16


class UnknownLevel(ImunityError):
    """The analysis level is neither participant nor group."""

    code = 17


class NothingSelected(ImunityError):
    """The filters leave no image."""

    code = 18


class Usage(ImunityError):
    """Options that do not exist, contradict each other or have a wrong value."""

    code = 64


class DataUnusable(ImunityError):
    """An image or table was read but cannot be worked with."""

    code = 65


class InputMissing(ImunityError):
    """A file or folder is missing or cannot be read."""

    code = 66


class OutputImpossible(ImunityError):
    """The output cannot be created."""

    code = 73


class DiskError(ImunityError):
    """Reading or writing failed half-way, for example on a full disk."""

    code = 74


class TryAgain(ImunityError):
    """A download failed that may work later."""

    code = 75


class WorkerKilled(ImunityError):
    """The process of a step ended without a word, most likely for want of memory."""

    code = SOME_FAILED


def is_disk_error(error: BaseException) -> bool:
    """True where the disk is full or broken: not the trouble of one image or report."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EIO, errno.EDQUOT)
