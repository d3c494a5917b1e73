from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from imunity_bids.run.scratch import ABANDONED_DAYS, HOST, LOCK

NO_TMP = "import tempfile; tempfile._candidate_tempdir_list = lambda: ['/proc/no']; "
RUN = """
from multiprocessing import get_context
from pathlib import Path
from imunity_bids.run.scratch import scratch_folder
from imunity_bids.settings import Settings
out, work = Path({out!r}), {work!r}
with scratch_folder(Settings(out / "in", out, work_dir=work and Path(work), run_id="now")) as folder:
    process = get_context("forkserver").Process(target=print, args=("worked",))
    process.start()
    process.join()
    print(folder, sorted(path.name[:5] for path in folder.iterdir()))
"""


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"})
    assert done.returncode == 0
    assert done.stderr == ""
    return done.stdout


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A socket's path has 107 characters at most; pytest's folders leave too few."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.mark.parametrize("no_tmp", ["", NO_TMP], ids=["with /tmp", "without /tmp"])
def test_scratch_serves_a_pool_of_processes_and_goes_quietly(no_tmp: str, short_path: Path) -> None:
    said = run(no_tmp + RUN.format(out=str(short_path), work=None))
    assert "worked" in said
    assert ("pymp-" in said) == bool(no_tmp)
    assert not (short_path / ".imunity_work").exists()


def test_the_users_work_folder_and_that_of_another_run_stay(tmp_path: Path) -> None:
    run(RUN.format(out=str(tmp_path / "out"), work=str(tmp_path / "work")))
    assert (tmp_path / "work").exists()
    other = tmp_path / "out" / ".imunity_work" / "other"
    other.mkdir(parents=True)
    run(RUN.format(out=str(tmp_path / "out"), work=None))
    assert list(other.parent.iterdir()) == [other]


def test_scratch_of_killed_runs_goes_and_that_of_living_or_distant_ones_stays(tmp_path: Path) -> None:
    killed = "import os, signal; " + RUN.replace(
        "    process = get", "    os.kill(os.getpid(), signal.SIGKILL); process = get"
    )
    done = subprocess.run([sys.executable, "-c", killed.format(out=str(tmp_path), work=None).replace("now", "killed")])
    assert done.returncode == -signal.SIGKILL
    for name, host in (("living", socket.gethostname()), ("distant", "another"), ("old", "another")):
        (tmp_path / ".imunity_work" / name).mkdir()
        (tmp_path / ".imunity_work" / name / HOST).write_text(host)
    long_ago = time.time() - (ABANDONED_DAYS + 1) * 86400
    os.utime(tmp_path / ".imunity_work" / "old" / HOST, (long_ago, long_ago))
    assert (tmp_path / ".imunity_work" / "killed").is_dir()
    with FileLock(tmp_path / ".imunity_work" / "living" / LOCK):
        run(RUN.format(out=str(tmp_path), work=None))
    assert {path.name for path in (tmp_path / ".imunity_work").iterdir()} == {"living", "distant"}
