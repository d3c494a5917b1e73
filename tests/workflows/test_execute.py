from __future__ import annotations

import os
from pathlib import Path

import pytest

from imunity_bids.errors import DiskError
from imunity_bids.settings import Settings
from imunity_bids.workflows.execute import MULTIPROC, _wait_for_slurm, plugin


def test_waits_for_its_own_jobs_and_cancels_those_that_can_never_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queue that has one job less each time it is asked; another user's script never ends and does not matter."""
    tools = tmp_path / "tools"
    tools.mkdir()
    ours = tmp_path / "work" / "batch"
    (tools / "squeue").write_text(
        f'#!/bin/bash\necho x >> {tmp_path}/asked\necho "9|None|/elsewhere/job.sh"\n'
        f'[ $(wc -l < {tmp_path}/asked) -gt 2 ] || echo "1|None|{ours}/a.sh"\n'
        f'echo "2|DependencyNeverSatisfied|{ours}/b.sh"\n'
    )
    (tools / "scancel").write_text(f'#!/bin/bash\necho "$@" >> {tmp_path}/cancelled\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    _wait_for_slurm(tmp_path / "work", seconds=0)
    assert (tmp_path / "asked").read_text().count("x") == 3
    assert set((tmp_path / "cancelled").read_text().split()) == {"2"}


def _tool(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/bash\n{script}\n")
    (folder / name).chmod(0o755)


def test_a_queue_that_does_not_answer_once_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = tmp_path / "asked"
    _tool(tmp_path / "tools", "squeue", f"echo x >> {counter}; [ $(wc -l < {counter}) -gt 2 ] || exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path / 'tools'}:{os.environ['PATH']}")
    _wait_for_slurm(tmp_path / "work", seconds=0)
    assert counter.read_text().count("x") == 3


def test_a_queue_that_never_answers_ends_with_a_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _tool(tmp_path / "tools", "squeue", "echo slurm is down >&2; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path / 'tools'}:{os.environ['PATH']}")
    with pytest.raises(DiskError, match="slurm is down") as stop:
        _wait_for_slurm(tmp_path / "work", seconds=0)
    assert stop.value.code == 74


@pytest.mark.parametrize(
    ("content", "name", "arguments"),
    [
        ("plugin: SLURM\nplugin_args:\n", "SLURM", {}),  # left empty
        ("plugin: SLURM\nplugin_args: {max_jobs: 3}\n", "SLURM", {"max_jobs": 3}),
    ],
)
def test_a_plugin_file(tmp_path: Path, content: str, name: str, arguments: dict[str, int]) -> None:
    (tmp_path / "p.yml").write_text(content)
    settings = Settings(tmp_path, tmp_path / "out", plugin_file=tmp_path / "p.yml", omp_nthreads=2)
    assert plugin(settings) == (name, arguments)


def test_multiproc_of_ones_own_gets_what_ours_needs(tmp_path: Path) -> None:
    """Named in a file it would hang as Nipype's own does where a worker is killed, and fork under torch."""
    (tmp_path / "p.yml").write_text("plugin: MultiProc\nplugin_args: {n_procs: 3}\n")
    settings = Settings(tmp_path, tmp_path / "out", plugin_file=tmp_path / "p.yml", omp_nthreads=2, mem_gb=5)
    name, arguments = plugin(settings)
    assert name == MULTIPROC
    assert arguments == {
        "n_procs": 3, "memory_gb": 5, "n_gpu_procs": 2, "raise_insufficient": False, "mp_context": "forkserver",
    }  # fmt: skip
    assert plugin(Settings(tmp_path, tmp_path / "out", nprocs=1)) == ("Linear", {})
