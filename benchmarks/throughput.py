"""Heads through `imunity … participant`, of this tree and of a revision before, in one run and in turns.

python benchmarks/throughput.py sub-01_T1w.nii.gz [more images] --revision REV

Core-seconds (user and system, of all processes) are what to compare where others use the machine, too.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

TREE = Path(__file__).parents[1]
ADOPT_ORPHANS = 36  # of prctl: Python's fork server outlives the run that started it, and nobody waits for it
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS")}

# One process for all steps: the core-seconds of each, of the report, and of the whole
STEPS = """
import json, sys, time
from imunity_bids.cli.run import main
from imunity_bids.interfaces.base import Interface
from imunity_bids.reports import participant
seconds = {}
def timed(function, name):
    def inner(*arguments):
        begin = time.process_time()
        result = function(*arguments)
        seconds[name(arguments)] = time.process_time() - begin
        return result
    return inner
import ants, torch, imunity_bids.qc.features
Interface._run_interface = timed(Interface._run_interface, lambda given: type(given[0]).__name__)
participant.write_report = timed(participant.write_report, lambda given: "report")
assert main(sys.argv[1:]) == 0
print(json.dumps(seconds | {"start, planning": time.process_time() - sum(seconds.values())}))
"""


@dataclass(frozen=True)
class Run:
    """What a run of several heads took."""

    wall: float
    cores: float  # core-seconds
    first: float  # seconds until the first image was done
    peak: float  # GB, of the largest process


def unpack(revision: str, folder: Path) -> Path:
    """The package as it was at a revision."""
    archive = subprocess.run(
        ["git", "-C", str(TREE), "archive", revision, "imunity_bids"], check=True, capture_output=True
    ).stdout
    with tarfile.open(fileobj=BytesIO(archive)) as file:
        file.extractall(folder, filter="data")
    return folder


def dataset(images: Sequence[Path], folder: Path) -> Path:
    """Links to the images, as a BIDS dataset."""
    for number, image in enumerate(images, start=1):
        link = folder / f"sub-{number:02}" / "anat" / f"sub-{number:02}_T1w.nii.gz"
        link.parent.mkdir(parents=True)
        link.symlink_to(image.absolute())
    (folder / "dataset_description.json").write_text('{"Name": "timed", "BIDSVersion": "1.10.0"}')
    return folder


def call(tree: Path, code: list[str], bids: Path, out: Path, processes: int) -> subprocess.Popen[str]:
    arguments = [str(bids), str(out), "participant", "--device", "cpu", "--omp-nthreads", "1"]
    return subprocess.Popen(
        [sys.executable, *code, *arguments, "--nprocs", str(processes)],
        env=os.environ | ONE_THREAD | {"PYTHONPATH": str(tree), "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1"},
        cwd=tree, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip


def steps(tree: Path, bids: Path, out: Path) -> dict[str, float]:
    """Core-seconds of each step of the one head in `bids`."""
    process = call(tree, ["-c", STEPS], bids, out, 1)
    answer, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"{tree}: the run ended with {process.returncode}")
    return json.loads(answer.splitlines()[-1])


def run(tree: Path, bids: Path, out: Path, processes: int) -> Run:
    """All heads of a dataset."""
    begin = time.time()
    process = call(tree, ["-m", "imunity_bids.cli.run"], bids, out, processes)
    cores, peak = 0.0, 0.0
    while True:
        try:
            pid, status, usage = os.wait3(0)
        except ChildProcessError:  # all are gone
            break
        if pid == process.pid and status:
            raise SystemExit(f"{tree}: the run ended with {os.waitstatus_to_exitcode(status)}")
        cores += usage.ru_utime + usage.ru_stime
        peak = max(peak, usage.ru_maxrss / 1024**2)
    done = [path.stat().st_mtime for path in out.rglob("*_desc-harmonized_T1w.json")]
    return Run(time.time() - begin, cores, min(done) - begin, peak)


def tell_steps(before: dict[str, float], now: dict[str, float]) -> None:
    print(f"{'one head, core-seconds':24} {'before':>8} {'share':>6} {'now':>8} {'share':>6} {'ratio':>6}")
    totals = [sum(part.values()) for part in (before, now)]
    for name in [*now, "all"]:
        old, new = before.get(name, totals[0]), now.get(name, totals[1])
        print(f"{name:24} {old:8.2f} {old / totals[0]:6.1%} {new:8.2f} {new / totals[1]:6.1%} {new / old:6.2f}")


def tell_runs(before: list[Run], now: list[Run], heads: int) -> None:
    print(f"\n{heads} heads; mean of {len(now)} runs {'before':>8} {'now':>8} {'ratio':>6}")
    for name, text, share in (
        ("cores", "core-seconds a head", heads), ("wall", "seconds a head", heads),
        ("first", "s to the first image", 1), ("peak", "GB, largest process", 1),
    ):  # fmt: skip
        old, new = (sum(getattr(one, name) for one in runs) / len(runs) / share for runs in (before, now))
        print(f"{text:24} {old:8.2f} {new:8.2f} {new / old:6.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--revision", required=True, help="of git, that this tree is compared with")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args()
    ctypes.CDLL(None).prctl(ADOPT_ORPHANS, 1, 0, 0, 0)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        trees = {"before": unpack(options.revision, folder / "before"), "now": TREE}
        one = dataset(options.images[:1], folder / "one")
        tell_steps(**{name: steps(tree, one, folder / f"steps-{name}") for name, tree in trees.items()})
        all_heads = dataset(options.images, folder / "all")
        runs: dict[str, list[Run]] = {name: [] for name in trees}
        for repeat in range(options.repeats):
            for name, tree in trees.items():
                runs[name].append(run(tree, all_heads, folder / f"{name}-{repeat}", options.processes))
        tell_runs(**runs, heads=len(options.images))


if __name__ == "__main__":
    main()
