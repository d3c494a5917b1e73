"""Nipype's MultiProc with one pool per process: a worker that is killed takes its own step along, and nothing else.

In Nipype 1.11 a worker that dies (out of memory) breaks the one pool of all workers; the exception is swallowed in a
callback, and the run waits for ever. What else differs: a step that ends is seen at once, where Nipype looks twice a
second; and images are finished one after the other, where Nipype begins all of them first.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from threading import Event
from traceback import format_exception
from typing import TYPE_CHECKING, Any

from nipype import Node
from nipype.pipeline.plugins.multiproc import MultiProcPlugin, process_initializer, run_node

from imunity_bids.errors import WorkerKilled
from imunity_bids.plan.crash import write_crash

if TYPE_CHECKING:
    from networkx import DiGraph

log = logging.getLogger(__name__)

# What steps and reports need: with "forkserver" the process that all others are copies of imports it, once per run.
IMPORTED = (
    *("ants", "torch", "imunity_bids.workflows.participants", "imunity_bids.reports.participant"),
    *("imunity_bids.harmonize.inference", "imunity_bids.image.extraction", "imunity_bids.qc.features"),
)


class WorkersPlugin(MultiProcPlugin):
    """Plugin arguments as for MultiProc."""

    def __init__(self, plugin_args: dict[str, Any]):
        super().__init__(plugin_args)
        self.pool.shutdown()  # MultiProc's own; it has not started a process yet
        self.pool = _Workers(plugin_args.get("mp_context"))
        self.ended = Event()  # a step has, since this was looked at last
        self.left: dict[Node, int] = {}

    def run(self, graph: DiGraph, config: dict[str, Any], updatehash: bool = False) -> None:
        """Nipype's loop without its naps: `_send_procs_to_workers` waits."""
        config["execution"]["poll_sleep_duration"] = "0"
        super().run(graph, config, updatehash)

    def _generate_dependency_list(self, graph: DiGraph) -> None:
        super()._generate_dependency_list(graph)
        for node in reversed(self.procs):
            self.left[node] = 1 + max((self.left[follower] for follower in graph.successors(node)), default=0)

    def _sort_jobs(self, jobids: Sequence[int], scheduler: str | None = None) -> list[int]:
        """The image that has the fewest steps left comes first."""
        return sorted(super()._sort_jobs(jobids, scheduler), key=lambda number: self.left[self.procs[number]])

    def _send_procs_to_workers(self, updatehash: bool = False, graph: DiGraph | None = None) -> None:
        """Begin what can begin; where nothing can, wait until a step ends."""
        begun = self.proc_done.sum()
        super()._send_procs_to_workers(updatehash, graph)
        if self.pending_tasks and self.proc_done.sum() == begun:
            self.ended.wait()
            self.ended.clear()

    def _submit_job(self, node: Node, updatehash: bool = False) -> int:
        self._taskid += 1
        task = self.pool.submit(run_node, node, updatehash, self._taskid)
        self._task_obj[self._taskid] = task
        task.add_done_callback(partial(self._finish, self._taskid, node))
        return self._taskid

    def _finish(self, number: int, node: Node, task: Future) -> None:
        """Keep what the step gave, and wake the loop."""
        error = task.exception()
        self._taskresult[number] = task.result() if error is None else self._failed(number, node, error)
        self.ended.set()

    def _failed(self, number: int, node: Node, error: BaseException) -> dict[str, Any]:
        """A step whose process was killed leaves a crash file, as every failure does."""
        if isinstance(error, BrokenExecutor):
            error = WorkerKilled(
                "its process was killed (out of memory?); give the run more memory, or less to do at once: --nprocs, "
                "--omp-nthreads, --mem-gb"
            )
        with contextlib.suppress(OSError):  # a full disk: the image is named all the same, without its reason
            if crash_file := getattr(node.inputs, "crash_file", ""):
                write_crash(Path(crash_file), type(node.interface).__name__, error)
        return {"result": None, "traceback": format_exception(error), "taskid": number}


class _Workers:
    """As many processes as are at work at once, each in a pool of its own; those that are free are used again."""

    def __init__(self, context: str | None):
        self.context = get_context(context)
        self.context.set_forkserver_preload(list(IMPORTED))
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
