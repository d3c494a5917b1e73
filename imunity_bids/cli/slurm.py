"""`imunity-slurm`: batch scripts for a cluster, one array task per participant that is not harmonized yet."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from imunity_bids import version
from imunity_bids.cli.common import HelpFormatter, Parser, guarded


def build_parser() -> Parser:
    """The command line; imports nothing heavy."""
    parser = Parser(
        "imunity-slurm",
        description=__doc__,
        formatter_class=HelpFormatter,
        epilog="All other options go to imunity: which participants, which reference, and so on.",
    )
    parser.add_argument("bids_dir", type=Path, help="BIDS dataset")
    parser.add_argument("output_dir", type=Path, help="derivative dataset")
    parser.add_argument("--version", action="version", version=f"imunity-bids {version()}")
    parser.add_argument("--script-dir", type=Path, default=Path("imunity-slurm"), help="where scripts and logs go")
    parser.add_argument("--image", type=Path, help="Singularity image (default: the imunity of this environment)")
    parser.add_argument("--bind", nargs="+", default=[], metavar="DIR", help="more folders the container shall see")
    parser.add_argument("--max-jobs", type=int, metavar="N", help="tasks at once (default: what the cluster gives)")
    parser.add_argument("--cpus", type=int, default=2, help="per task")
    parser.add_argument(
        "--task-mem-gb", type=int, metavar="GB", help="per task (default: by the size of the largest image)"
    )
    parser.add_argument("--time", default="02:00:00", help="per task")
    parser.add_argument("--gpu", action="store_true", help="one GPU per task")
    parser.add_argument(
        "--sbatch", action="append", default=[], metavar="OPTION",
        help='more for sbatch, several times if need be: --sbatch="--partition=long"',
    )  # fmt: skip
    parser.add_argument("--submit", action="store_true", help="submit at once")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Entry point."""
    options, rest = build_parser().parse_known_args(arguments)
    return guarded(lambda: _write(options, rest), "imunity-slurm")


def _write(options: argparse.Namespace, rest: list[str]) -> int:
    from imunity_bids.cli.parser import options_in_full, parse
    from imunity_bids.plan.plan import make_plan
    from imunity_bids.run.folders import check_folders, keep_apart
    from imunity_bids.run.slurm import Cluster, submit, write_scripts

    given = [str(options.bids_dir), str(options.output_dir), "participant"]
    settings = parse([*given, *rest])
    check_folders(settings)
    keep_apart("--script-dir", options.script_dir.resolve(), settings.bids_dir.resolve())
    plan = make_plan(settings)
    if not plan.images:
        print(f"nothing to do: all {len(plan.done)} images are harmonized")
        return 0
    words, paths = options_in_full([*given, *rest])
    cluster = Cluster(
        folder=options.script_dir.absolute(),
        image=options.image and options.image.absolute(),
        binds=tuple(Path(path).absolute() for path in options.bind),
        read_only=tuple(path for path in paths if path.exists()),
        max_jobs=options.max_jobs,
        cpus=options.cpus,
        mem_gb=options.task_mem_gb,
        time=options.time,
        gpu=options.gpu,
        sbatch=tuple(options.sbatch),
    )
    script = write_scripts(plan, cluster, words)
    if options.submit:
        return submit(script)
    print(f"look at {script.parent}, then: bash {script}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
