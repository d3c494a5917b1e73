"""How many cores and how much memory this process may use: what affinity, control groups and SLURM allow.

Not what the host has. Control groups are nested (a SLURM job, a container in it): the least of all levels counts.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path("/")
UNLIMITED = 2**60  # version 1 says "no limit" by a number near 2⁶³


def available_cores(root: Path = ROOT, environment: Mapping[str, str] = os.environ) -> int:
    """What affinity, control groups and SLURM allow."""
    from joblib.externals.loky import cpu_count  # affinity, and the limit of a container

    limits = [cpu_count()]
    for folder in _groups(root, ""):
        quota = _read(folder / "cpu.max").split()
        limits += _share(*quota) if len(quota) == 2 else []
    for folder in _groups(root, "cpu"):
        limits += _share(_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us"))
    limits += [int(cpus) for name in ("SLURM_CPUS_PER_TASK",) if (cpus := environment.get(name, "")).isdigit()]
    return max(1, min(limits))


def available_memory_gb(root: Path = ROOT, environment: Mapping[str, str] = os.environ) -> float:
    """Nine tenths of what is free, of the least limit of the control groups, or of what SLURM gives."""
    limits = [_free_bytes(root)]
    limits += [_bytes(_read(folder / "memory.max")) for folder in _groups(root, "")]
    limits += [_bytes(_read(folder / "memory.limit_in_bytes")) for folder in _groups(root, "memory")]
    limits.append(_slurm_bytes(environment))
    return round(0.9 * min(limits) / 1024**3, 1)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of the process's control group and of all above it: of version 2 where `controller` is empty, else of 1.

    In a container the path of /proc/self/cgroup is the host's and not in view; then only the mounted root counts.
    """
    mounted = root / "sys/fs/cgroup" / controller
    yield mounted
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, names, path = line.split(":", 2)
        if (controller in names.split(",")) if controller else (number == "0" and not names):
            folder = mounted / path.lstrip("/")
            while folder != mounted and mounted in folder.parents:
                yield folder
                folder = folder.parent


def _share(quota: str, period: str) -> list[int]:
    """Whole cores of a quota; empty where there is none."""
    return [max(1, int(quota) // int(period))] if quota.isdigit() and period.isdigit() and int(period) else []


def _bytes(text: str) -> int:
    return int(text) if text.isdigit() else UNLIMITED


def _free_bytes(root: Path) -> int:
    for line in _read(root / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 8 * 1024**3


def _slurm_bytes(environment: Mapping[str, str]) -> int:
    """SLURM_MEM_PER_NODE, or SLURM_MEM_PER_CPU times the task's cores; both in MB, 0 for all of the node."""
    whole, per_core = (environment.get(f"SLURM_MEM_PER_{unit}", "") for unit in ("NODE", "CPU"))
    cores = environment.get("SLURM_CPUS_ON_NODE", environment.get("SLURM_CPUS_PER_TASK", "1"))
    if whole.isdigit() and int(whole):
        return int(whole) * 1024**2
    if per_core.isdigit() and int(per_core) and cores.isdigit():
        return int(per_core) * int(cores) * 1024**2
    return UNLIMITED


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:  # this kind of control group is not in use here
        return ""
