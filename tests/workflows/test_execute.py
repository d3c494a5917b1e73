from __future__ import annotations

import os
from pathlib import Path

import pytest

from imunity_bids.workflows.execute import _wait_for_slurm


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
