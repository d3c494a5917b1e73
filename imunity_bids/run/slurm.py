"""Batch scripts for SLURM: an array with one task per participant, and a job that checks that all is there."""

from __future__ import annotations

import math
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from imunity_bids.errors import InputMissing
from imunity_bids.plan.plan import Plan
from imunity_bids.settings import Settings

APP_GB = 1.5  # the process that hands out the steps, and room for files
TEMPLATES = Path(__file__).parents[1] / "data" / "slurm"


@dataclass(frozen=True)
class Cluster:
    """What one task gets, and where scripts and logs are."""

    folder: Path
    image: Path | None = None  # Singularity image
    binds: tuple[Path, ...] = ()
    read_only: tuple[Path, ...] = ()  # what the options name
    max_jobs: int | None = None
    cpus: int = 2
    mem_gb: int | None = None  # None: what the largest of the images needs
    time: str = "02:00:00"
    gpu: bool = False
    sbatch: tuple[str, ...] = ()


def write_scripts(plan: Plan, cluster: Cluster, options: list[str]) -> Path:
    """array.sh, check.sh, submit.sh and participants.txt (those with an image to do); returns submit.sh.

    Raises
    ------
    InputMissing
        The image is not there.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    if cluster.image and not cluster.image.exists():
        raise InputMissing(f"--image {cluster.image}: no such file")
    settings = plan.settings
    labels = sorted({image.subject for image in plan.images})
    (cluster.folder / "logs").mkdir(parents=True, exist_ok=True)
    (cluster.folder / "participants.txt").write_text("".join(f"{label}\n" for label in labels))
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True
    )
    values = {
        "labels": labels,
        "folder": cluster.folder,
        "quoted_folder": shlex.quote(str(cluster.folder)),
        "dataset": shlex.join([str(settings.bids_dir), str(settings.output_dir)]),
        "max_jobs": cluster.max_jobs,
        "cpus": cluster.cpus,
        "mem_gb": cluster.mem_gb or memory_gb(plan, cluster.cpus),
        "time": cluster.time,
        "sbatch": [*cluster.sbatch, *(["--gpus=1"] if cluster.gpu else [])],
        "options": shlex.join(options),
        "run": lambda more: _command(plan, cluster, more),
    }
    for name in ("array.sh", "check.sh", "submit.sh"):
        (cluster.folder / name).write_text(environment.get_template(name).render(values))
    return cluster.folder / "submit.sh"


def memory_gb(plan: Plan, cpus: int) -> int:
    """Memory of a task: what the app itself needs, and as often as it works on images at once the largest one's need.

    The participant with most images decides how many that are, and scans of references count, too.
    """
    from imunity_bids.workflows.nodes import image_gb, visits_gb

    means = (mean for image in plan.images for mean in plan.made_of(image))
    scans = {*plan.images, *(scan for mean in means for scan in mean.images)}
    needs = [image_gb(scan.path) for scan in scans]
    needs += [visits_gb(visit.path for visit in visits) for image in plan.images if (visits := plan.visits(image))]
    most = max(Counter(image.subject for image in plan.images).values())
    threads = replace(plan.settings, nprocs=cpus).shared_out(most).omp_nthreads or 1
    return math.ceil(APP_GB + max(needs) * min(most, cpus // threads))


def submit(script: Path) -> int:
    """Run submit.sh.

    Raises
    ------
    InputMissing
        There is no sbatch here.
    """
    if shutil.which("sbatch") is None:
        raise InputMissing(f"there is no sbatch here; submit from a login node: bash {script}")
    return subprocess.run(["bash", str(script)], check=False).returncode


def _command(plan: Plan, cluster: Cluster, more: str) -> str:
    """Shell words that start imunity: of this environment, or in the container, where every path is what it is here."""
    if cluster.image is None:
        return shlex.join([sys.executable, "-m", "imunity_bids.cli.run"])
    settings = plan.settings
    binds = [f"{settings.bids_dir}:{settings.bids_dir}:ro", str(settings.output_dir), *map(str, cluster.binds)]
    binds += [f"{path}:{path}:ro" for path in cluster.read_only if not _seen(path, settings, cluster)]
    words = ["--containall", "--cleanenv", *(["--nv"] if cluster.gpu else [])]
    for bind in binds:
        words += ["--bind", bind]
    runner = '"$(command -v apptainer || command -v singularity)" run'
    return f"{runner} {shlex.join(words)} {more} {shlex.quote(str(cluster.image))}"


def _seen(path: Path, settings: Settings, cluster: Cluster) -> bool:
    """A folder that is bound anyway holds it."""
    bound = (settings.bids_dir, settings.output_dir, *cluster.binds)
    return any(path.is_relative_to(folder) for folder in bound)
