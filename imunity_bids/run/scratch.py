"""The work folder of a run: made, locked while the run lives, and removed, also for runs that were killed."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.util import Finalize
from pathlib import Path

from filelock import FileLock, Timeout

from imunity_bids.run.folders import make_work_folder
from imunity_bids.settings import Settings

LOCK = "run.lock"
HOST = "host"  # the name of the machine, since some network file systems do not lock between machines
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


def _lock(folder: Path) -> FileLock:
    """Lock a new folder for as long as this process lives, and note the machine."""
    (folder / HOST).write_text(socket.gethostname())
    lock = FileLock(folder / LOCK)
    with suppress(OSError, Timeout, NotImplementedError):  # a file system without locks
        lock.acquire(timeout=0)
    return lock


def _remove_abandoned(neighbours: Path, own: Path) -> None:
    for folder in neighbours.iterdir():
        if folder != own and _is_abandoned(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _is_abandoned(folder: Path) -> bool:
    """The run that made the folder was killed: nobody holds its lock, on this machine or for a long time."""
    with suppress(OSError, Timeout, NotImplementedError):  # held, gone meanwhile, not of ours, or no locks here
        host = (folder / HOST).read_text()
        old = time.time() - (folder / HOST).stat().st_mtime > ABANDONED_DAYS * 86400
        with FileLock(folder / LOCK, timeout=0):
            return old or host == socket.gethostname()
    return False


def _remove(folder: Path, lock: FileLock) -> None:
    lock.release()
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # another run is still in there
        folder.parent.rmdir()
