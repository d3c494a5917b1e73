"""Two runs never work on one participant at the same time: the files of one would stand beside those of the other."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)

LOCKS = ".imunity_cache/at_work"  # in the output folder


@contextmanager
def turn(output_dir: Path, subjects: Iterable[str]) -> Iterator[bool]:
    """Hold the participants (labels) of an output folder; True where another run had to be waited for.

    All runs take them in the same order, so that no two wait for each other. A lock ends with its process. On a file
    system without locks nobody is held.
    """
    waited = False
    with ExitStack() as held:
        for subject in sorted(set(subjects)):
            file = output_dir / LOCKS / f"sub-{subject}.lock"
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                lock = FileLock(file)
                try:
                    lock.acquire(timeout=0)
                except Timeout:
                    log.info("another run is at work on sub-%s: waiting until it is done with it", subject)
                    waited = True
                    lock.acquire()
            except (OSError, NotImplementedError) as error:
                log.warning("%s cannot be locked (%s): no other run may work on this participant now", file, error)
                continue
            held.callback(lock.release)
        yield waited
