"""A worker that is killed takes its own step along, and nothing else; the run ends."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from nipype import Function, Node, Workflow
from nipype.interfaces.base import SimpleInterface, TraitedSpec, traits

from imunity_bids.plan.crash import read_crash
from imunity_bids.workflows.workers import WorkersPlugin, _Workers


class _Inputs(TraitedSpec):
    crash_file = traits.Str("", usedefault=True)
    number = traits.Int()
    dies = traits.Bool(False, usedefault=True)
    use_gpu = traits.Bool(False, usedefault=True)
    diary = traits.Str("", usedefault=True)


class _Outputs(TraitedSpec):
    number = traits.Int()


class Step(SimpleInterface):
    """Adds one, or is killed as the kernel kills what takes too much memory."""

    input_spec = _Inputs
    output_spec = _Outputs

    def _run_interface(self, runtime: object) -> object:
        if self.inputs.dies:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.inputs.diary:
            with open(self.inputs.diary, "a") as diary:
                diary.write("+")
                diary.flush()
                time.sleep(0.3)
                diary.write("-")
        self._results["number"] = self.inputs.number + 1
        return runtime


def divide(by: int) -> float:
    return 1 / by


def branch(workflow: Workflow, name: str, crash_file: Path, dies: bool) -> Node:
    """Two steps in a row, of which the first may die."""
    first = Node(Step(number=1, dies=dies, crash_file=str(crash_file)), name=f"first_{name}")
    second = Node(Step(), name=f"second_{name}")
    workflow.connect(first, "number", second, "number")
    return second


def run(workflow: Workflow, **arguments: Any) -> WorkersPlugin:
    plugin = WorkersPlugin({"n_procs": 2, "memory_gb": 1, "mp_context": "forkserver", **arguments})
    workflow.config["execution"] = {
        "crashdump_dir": str(workflow.base_dir), "crashfile_format": "txt", "stop_on_first_crash": "false",
    }  # fmt: skip
    workflow.run(plugin=plugin)
    return plugin


def test_the_others_go_on_and_the_run_ends(tmp_path: Path) -> None:
    """With MultiProc's one pool for all, this test never ends."""
    workflow = Workflow("wf", base_dir=str(tmp_path))
    names = ("a", "b", "dies", "c")
    for name in names:
        branch(workflow, name, tmp_path / f"crash-{name}.txt", name == "dies")
    with pytest.raises(RuntimeError, match="killed"):
        run(workflow)
    results = {name: (tmp_path / "wf" / f"second_{name}" / f"result_second_{name}.pklz").exists() for name in names}
    assert results == {"a": True, "b": True, "dies": False, "c": True}
    crash = read_crash(tmp_path / "crash-dies.txt")
    assert (crash["code"], crash["step"]) == (1, "Step")
    assert "out of memory?" in crash["message"]
    assert not (tmp_path / "crash-a.txt").exists()


def test_results_go_from_step_to_step(tmp_path: Path) -> None:
    workflow = Workflow("wf", base_dir=str(tmp_path))
    branch(workflow, "a", tmp_path / "crash", False)
    plugin = run(workflow)
    assert not (tmp_path / "crash").exists()
    assert len(plugin.pool.pools) == 1  # the second step took the process of the first


def test_images_are_finished_one_after_the_other(tmp_path: Path) -> None:
    workflow = Workflow("wf", base_dir=str(tmp_path))
    for name in ("a", "b", "c"):
        branch(workflow, name, tmp_path / "crash", False)
    begun: list[str] = []
    run(workflow, n_procs=1, status_callback=lambda node, status: begun.append(node.name) if status == "start" else 0)
    assert [name.split("_")[0] for name in begun] == ["first", "second"] * 3
    assert begun[0][-1] == begun[1][-1]


def test_an_error_is_no_death(tmp_path: Path) -> None:
    """It goes the usual way: the step's own crash file, written by the step."""
    workflow = Workflow("wf", base_dir=str(tmp_path))
    fails = Node(Function(function=divide, input_names=["by"], output_names=["result"]), name="fails")
    fails.inputs.by = 0
    workflow.add_nodes([fails])
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        run(workflow)


def test_a_process_that_was_killed_while_idle_is_replaced() -> None:
    workers = _Workers("forkserver")
    try:
        first = workers.submit(os.getpid).result(30)
        os.kill(first, signal.SIGKILL)
        while workers.free and not workers.free[0]._broken:  # until the pool has noticed
            time.sleep(0.05)
        seen = {workers.submit(os.getpid).result(30) for _ in range(3)}
        assert first not in seen
    finally:
        workers.shutdown()


@pytest.mark.parametrize("gpu", [True, False])
def test_one_at_a_time_where_there_is_one_gpu_slot(tmp_path: Path, gpu: bool) -> None:
    """Each step notes when it begins and ends; without a GPU two of them overlap."""
    workflow = Workflow("wf", base_dir=str(tmp_path))
    diary = tmp_path / "diary"
    for number in range(4):
        step = Node(Step(number=number, use_gpu=gpu, diary=str(diary)), name=f"step_{number}")
        workflow.add_nodes([step])
    run(workflow, n_gpu_procs=1)
    assert sorted(diary.read_text()) == sorted("+-" * 4)
    assert (diary.read_text() == "+-" * 4) == gpu
