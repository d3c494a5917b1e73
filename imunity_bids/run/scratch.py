"""The work folder of a run: made, locked while the run lives, and removed, also for runs that were killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.util import Finalize
from pathlib import Path
from typing import IO

from imunity_bids.run.folders import make_work_folder
from imunity_bids.settings import Settings

LOCK = "run.lock"  # holds the name of the machine, since some network file systems do not lock between machines
ABANDONED_DAYS = 7  # after that a run on another machine is over, too


@contextmanager
def scratch_folder(settings: Settings) -> Iterator[Path]:
    """The user's work folder, or one of this run's own, so that parallel jobs do not meet; that one goes at the end.

    Matplotlib's cache goes there too: HOME may be read-only, or shared by a thousand jobs.
    """
    folder = settings.work_dir or settings.scratch / settings.run_id
    if settings.work_dir is not None:
        make_work_folder(folder, settings.clean_workdir)
    (folder / "matplotlib").mkdir(parents=True, exist_ok=True)
    held = None
    if settings.work_dir is None:
        held = _lock(folder)
        _remove_abandoned(settings.scratch, folder)
    os.environ.setdefault("MPLCONFIGDIR", str(folder / "matplotlib"))
    try:
        tempfile.gettempdir()
    except FileNotFoundError:  # a read-only container without /tmp
        tempfile.tempdir = os.environ["TMPDIR"] = str(folder)
    try:
        yield folder
    finally:
        if held is not None:
            # multiprocessing may have its sockets in there until the interpreter ends: it removes them at priority -100
            Finalize(None, _remove, (folder, held), exitpriority=-200)


def _lock(folder: Path) -> IO[str]:
    """Lock a new folder until the file that is returned is closed."""
    held = open(folder / LOCK, "w")  # noqa: SIM115
    with suppress(OSError):  # a file system without locks
        fcntl.flock(held, fcntl.LOCK_EX)
    held.write(socket.gethostname())
    held.flush()
    return held


def _remove_abandoned(neighbours: Path, own: Path) -> None:
    for folder in neighbours.iterdir():
        if folder != own and _is_abandoned(folder / LOCK):
            shutil.rmtree(folder, ignore_errors=True)


def _is_abandoned(lock: Path) -> bool:
    """The run that made the lock was killed."""
    with suppress(OSError), open(lock) as file:  # held, gone meanwhile, no lock of ours, or no locks here
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        old = time.time() - lock.stat().st_mtime > ABANDONED_DAYS * 86400
        return old or file.read() == socket.gethostname()
    return False


def _remove(folder: Path, held: IO[str]) -> None:
    held.close()
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # another run is still in there
        folder.parent.rmdir()
