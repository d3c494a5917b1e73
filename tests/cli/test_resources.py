"""What this process may use, not what the host has: control groups of both versions, nested, and SLURM."""

from __future__ import annotations

from pathlib import Path

import pytest

from imunity_bids.cli import resources
from imunity_bids.cli.resources import available_cores, available_memory_gb

GB = 1024**3
ROOT = "sys/fs/cgroup"


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("joblib.externals.loky.cpu_count", lambda: 8)


def machine(root: Path, files: dict[str, str], own_groups: str = "") -> Path:
    """A root folder as the kernel shows it, with 32 GB free."""
    for name, content in {"proc/meminfo": f"MemTotal: 1 kB\nMemAvailable: {32 * 1024**2} kB\n", **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content + "\n")
    (root / "proc/self").mkdir()
    (root / "proc/self/cgroup").write_text(own_groups)
    return root


V2 = "0::/system.slice/slurmd/job_7/step_0\n"
V1 = "9:name=systemd:/\n5:memory:/slurm/uid_1/job_7\n3:cpuset:/x\n2:cpu,cpuacct:/slurm/uid_1/job_7\n"
LIMITS = {
    "free memory": ({}, "", {}, 32, 8),
    "docker, version 2": ({f"{ROOT}/memory.max": str(4 * GB), f"{ROOT}/cpu.max": "200000 100000"}, "", {}, 4, 2),
    "no limit": ({f"{ROOT}/memory.max": "max", f"{ROOT}/cpu.max": "max 100000"}, V2, {}, 32, 8),
    "a SLURM job, version 2, the limit two levels above": (
        {
            f"{ROOT}/system.slice/slurmd/job_7/memory.max": str(6 * GB),
            f"{ROOT}/system.slice/slurmd/job_7/step_0/memory.max": "max",
            f"{ROOT}/system.slice/slurmd/cpu.max": "300000 100000",
        },
        V2, {}, 6, 3,
    ),
    "version 1": (
        {
            f"{ROOT}/memory/slurm/uid_1/job_7/memory.limit_in_bytes": str(3 * GB),
            f"{ROOT}/memory/memory.limit_in_bytes": "9223372036854771712",
            f"{ROOT}/cpu/slurm/uid_1/job_7/cpu.cfs_quota_us": "150000",
            f"{ROOT}/cpu/slurm/uid_1/job_7/cpu.cfs_period_us": "100000",
        },
        V1, {}, 3, 1,
    ),
    "version 1 without a limit": (
        {f"{ROOT}/cpu/cpu.cfs_quota_us": "-1", f"{ROOT}/cpu/cpu.cfs_period_us": "100000"}, V1, {}, 32, 8,
    ),
    "SLURM's word": ({}, "", {"SLURM_MEM_PER_NODE": "5120", "SLURM_CPUS_PER_TASK": "4"}, 5, 4),
    "SLURM's word by core": ({}, "", {"SLURM_MEM_PER_CPU": "2048", "SLURM_CPUS_ON_NODE": "3"}, 6, 8),
    "all of the node": ({}, "", {"SLURM_MEM_PER_NODE": "0"}, 32, 8),
}  # fmt: skip


@pytest.mark.parametrize("name", LIMITS)
def test_the_least_limit_counts(tmp_path: Path, name: str) -> None:
    files, groups, environment, memory, cores = LIMITS[name]
    root = machine(tmp_path, files, groups)
    assert available_memory_gb(root, environment) == pytest.approx(0.9 * memory, abs=0.06)  # one decimal
    assert available_cores(root, environment) == cores


def test_a_machine_that_shows_nothing(tmp_path: Path) -> None:
    assert available_memory_gb(tmp_path, {}) == pytest.approx(7.2)
    assert available_cores(tmp_path, {}) == 8


def test_this_machine() -> None:
    """Whatever it is: something that a run can work with, and no more than there is."""
    total = int(next(line for line in Path("/proc/meminfo").read_text().splitlines() if "MemTotal" in line).split()[1])
    assert 0 < available_memory_gb() <= total / 1024**2
    assert resources.available_cores() >= 1
