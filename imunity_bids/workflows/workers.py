"""Nipype's MultiProc with one pool per process: a worker that is killed takes its own step along, and nothing else.

In Nipype 1.11 a worker that dies (out of memory) breaks the one pool of all workers; the exception is swallowed in a
callback, and the run waits for ever.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from traceback import format_exception
from typing import Any

from nipype import Node
from nipype.pipeline.plugins.multiproc import MultiProcPlugin, process_initializer, run_node

from imunity_bids.errors import WorkerKilled
from imunity_bids.plan.crash import write_crash

log = logging.getLogger(__name__)


class WorkersPlugin(MultiProcPlugin):
    """Plugin arguments as for MultiProc."""

    def __init__(self, plugin_args: dict[str, Any]):
        super().__init__(plugin_args)
        self.pool.shutdown()  # MultiProc's own; it has not started a process yet
        self.pool = _Workers(plugin_args.get("mp_context"))

    def _submit_job(self, node: Node, updatehash: bool = False) -> int:
        self._taskid += 1
        task = self.pool.submit(run_node, node, updatehash, self._taskid)
        self._task_obj[self._taskid] = task
        task.add_done_callback(partial(self._finish, self._taskid, node))
        return self._taskid

    def _finish(self, number: int, node: Node, task: Future) -> None:
        """Keep what the step gave; one whose process was killed leaves a crash file, as every failure does."""
        error = task.exception()
        if error is None:
            self._taskresult[number] = task.result()
            return
        if isinstance(error, BrokenExecutor):
            error = WorkerKilled(
                "its process was killed (out of memory?); give the run more memory, or less to do at once: --nprocs, "
                "--omp-nthreads, --mem-gb"
            )
        with contextlib.suppress(OSError):  # a full disk: the image is named all the same, without its reason
            if crash_file := getattr(node.inputs, "crash_file", ""):
                write_crash(Path(crash_file), type(node.interface).__name__, error)
        self._taskresult[number] = {"result": None, "traceback": format_exception(error), "taskid": number}


class _Workers:
    """As many processes as are at work at once, each in a pool of its own; those that are free are used again."""

    def __init__(self, context: str | None):
        self.context = get_context(context)
        self.folder = os.getcwd()  # noqa: PTH109 (what the initializer takes)
        self.pools: set[ProcessPoolExecutor] = set()
        self.free: list[ProcessPoolExecutor] = []

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        """Run it in a free process, or in a new one; the plugin sees to it that there are not too many."""
        while True:
            pool = self.free.pop() if self.free else self._new()
            try:
                task = pool.submit(function, *arguments)
            except BrokenExecutor:  # killed while it had nothing to do
                self._drop(pool)
                continue
            task.add_done_callback(partial(self._release, pool))
            return task

    def _new(self) -> ProcessPoolExecutor:
        pool = ProcessPoolExecutor(1, self.context, process_initializer, (self.folder,))
        self.pools.add(pool)
        return pool

    def _release(self, pool: ProcessPoolExecutor, task: Future) -> None:
        if isinstance(task.exception(), BrokenExecutor):
            self._drop(pool)
        else:
            self.free.append(pool)

    def _drop(self, pool: ProcessPoolExecutor) -> None:
        self.pools.discard(pool)
        pool.shutdown(wait=False)

    def shutdown(self) -> None:
        """End all processes, each after what it is at."""
        for pool in list(self.pools):
            pool.shutdown(cancel_futures=True)
