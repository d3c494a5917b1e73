"""The command line of `imunity`: options as in DESIGN, section 3, turned into `Settings`. Imports nothing heavy."""

from __future__ import annotations

import argparse
import os
import tomllib
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from imunity_bids import version
from imunity_bids.cli.common import HelpFormatter, Parser
from imunity_bids.errors import InputMissing, UnknownLevel, Usage
from imunity_bids.settings import DEFAULT_TEMPLATE, Settings

LEVELS = ("participant", "group")


def build_parser() -> Parser:
    """Names and defaults; `docs/options.md` is made from this."""
    parser = Parser(
        "imunity",
        description="Harmonize the T1-weighted images of a BIDS dataset with ImUnity.",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("bids_dir", type=Path, help="BIDS dataset; nothing is ever written into it")
    parser.add_argument("output_dir", type=Path, help="derivative dataset")
    parser.add_argument("level", help="participant: harmonize; group: gather the quality measures of all participants")
    parser.add_argument("--version", action="version", version=f"imunity-bids {version()}")
    parser.add_argument("-v", "--verbose", action="count", default=0, dest="verbosity", help="say more")
    _add_selection(parser.add_argument_group("which images"))
    _add_reference(parser.add_argument_group("reference and model"))
    _add_preprocessing(parser.add_argument_group("preprocessing and outputs"))
    _add_resources(parser.add_argument_group("resources"))
    _add_operation(parser.add_argument_group("operation"))
    return parser


def _add_selection(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--participant-label", "--participant_label", nargs="+", default=[], dest="participants", metavar="LABEL",
        help="with or without sub-, separated by spaces or commas; @FILE reads a list",
    )  # fmt: skip
    group.add_argument(
        "--session-label", "--session_label", nargs="+", default=[], dest="sessions", metavar="LABEL",
        help="with or without ses-",
    )  # fmt: skip
    group.add_argument("--bids-filter-file", type=Path, metavar="FILE", help='JSON, {"t1w": {"acquisition": "…"}}')
    group.add_argument("--bids-database-dir", type=Path, metavar="DIR", help="pybids database to use or create")
    group.add_argument("--skip-bids-validation", action="store_true", help="do not check dataset_description.json")


def _add_reference(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--reference", action="append", dest="references", metavar="REF",
        help="contrast to harmonize to: default (the bundle's), a T1w file, sub-XX[_ses-YY], or site:NAME; "
        "may be given several times",
    )  # fmt: skip
    group.add_argument("--site-column", default="site", metavar="NAME", help="column of participants.tsv")
    group.add_argument(
        "--reference-slices", type=int, default=9, metavar="N", help="slices around the middle that give the contrast"
    )
    group.add_argument("--model", default="imunity", help="bundle by name, or its folder")


def _add_preprocessing(group: argparse._ArgumentGroup) -> None:
    methods = ("auto", "network", "ants", "synthstrip", "none")
    group.add_argument(
        "--skull-strip", choices=methods, default="auto", help="auto: network, unless the scan is already stripped"
    )
    group.add_argument("--brain-model", type=Path, metavar="DIR", help="brain extraction model of your own")
    group.add_argument(
        "--brain-border", type=float, default=0.0, metavar="MM", help="shift of the mask's edge, negative: tighter"
    )
    group.add_argument("--synthstrip-model", type=Path, metavar="FILE", help="SynthStrip's weights")
    group.add_argument("--registration", choices=("affine", "rigid"), default="affine", help="to the template")
    group.add_argument(
        "--template", default=DEFAULT_TEMPLATE, metavar="NAME",
        help="TemplateFlow name, NAME:cohort-N, or MNI152NLin2009aSym, which is built in",
    )  # fmt: skip
    group.add_argument(
        "--output-spaces", nargs="+", default=["template"], choices=("template", "T1w"),
        help="where to write the harmonized image; template is always written",
    )  # fmt: skip


def _add_resources(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N, for the models")
    group.add_argument("--batch-size", type=int, default=16, metavar="N", help="slices at once")
    group.add_argument("--precision", choices=("float32", "float16", "bfloat16"), default="float32", help="on a GPU")
    group.add_argument("--nprocs", type=int, metavar="N", help="images or steps at once (default: the cores allowed)")
    group.add_argument("--omp-nthreads", type=int, metavar="N", help="threads per step (default: shared out)")
    group.add_argument("--mem-gb", type=float, metavar="GB", help="memory (default: what is allowed)")
    group.add_argument("--use-plugin", type=Path, dest="plugin_file", metavar="FILE", help="Nipype plugin as YAML")


def _add_operation(group: argparse._ArgumentGroup) -> None:
    group.add_argument("-w", "--work-dir", type=Path, metavar="DIR", help="scratch (default: OUTPUT_DIR/.imunity_work)")
    group.add_argument("--clean-workdir", action="store_true", help="empty the folder of -w first")
    group.add_argument("--force", action="store_true", help="redo what is done already")
    group.add_argument("--stop-on-first-crash", action="store_true", help="do not go on with the other images")
    group.add_argument("--dry-run", action="store_true", help="list what would run")
    group.add_argument("--reports-only", action="store_true", help="write reports and tables of what is there")
    group.add_argument("--write-graph", action="store_true", help="draw the workflow into logs/")
    group.add_argument("--random-seed", type=int, default=1, metavar="N", help="of the registration's sampling")
    group.add_argument("--config-file", type=Path, metavar="FILE", help="TOML of options, as written into logs/")


def parse(arguments: list[str] | None = None) -> Settings:
    """Settings of a run.

    Raises
    ------
    UnknownLevel, Usage, InputMissing
        Wrong level; wrong values or a wrong configuration file; a file that is not there.
    """
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.config_file:
        parser.set_defaults(**_read_config(options.config_file))
        options = parser.parse_args(arguments)
    if options.level not in LEVELS:
        raise UnknownLevel(f"unknown analysis level {options.level}: participant or group")
    for name in ("reference_slices", "batch_size", "nprocs", "omp_nthreads", "mem_gb"):
        value = getattr(options, name)
        if value is not None and value <= 0:
            raise Usage(f"--{name.replace('_', '-')} {value}: must be above 0")
    return _settings(options)


def _settings(options: argparse.Namespace) -> Settings:
    values = {name: value for name, value in vars(options).items() if name in Settings.names()}
    cores = options.nprocs or available_cores()
    values |= {
        "bids_dir": options.bids_dir.absolute(),
        "output_dir": options.output_dir.absolute(),
        "work_dir": options.work_dir.absolute() if options.work_dir else None,
        "participants": _labels(options.participants, "sub-"),
        "sessions": _labels(options.sessions, "ses-"),
        "references": tuple(options.references or ["default"]),
        "output_spaces": tuple(options.output_spaces),
        "nprocs": cores,
        "mem_gb": options.mem_gb or available_memory_gb(),
        "run_id": f"{datetime.now():%Y%m%d-%H%M%S}-{uuid4().hex[:6]}",
    }
    return Settings(**values)


def _labels(given: list[str], prefix: str) -> tuple[str, ...]:
    labels: list[str] = []
    for item in given:
        if item.startswith("@"):
            try:
                labels += Path(item[1:]).read_text(encoding="utf-8").replace(",", " ").split()
            except OSError as error:
                raise InputMissing(f"list of labels {item[1:]}: {error.strerror}") from error
        else:
            labels += item.replace(",", " ").split()
    return tuple(dict.fromkeys(label.removeprefix(prefix) for label in labels))


def _read_config(path: Path) -> dict[str, Any]:
    """Options of a TOML file; those of one run only (dataset, output, id) are left out."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputMissing(f"--config-file {path}: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise Usage(f"--config-file {path}: {error}") from error
    known = {action.dest: action for action in build_parser()._actions}
    for name in ("bids_dir", "output_dir", "level", "run_id"):
        content.pop(name, None)
    if unknown := sorted(set(content) - set(known)):
        raise Usage(f"--config-file {path}: unknown options {', '.join(unknown)}")
    return {name: known[name].type(v) if known[name].type is Path else v for name, v in content.items()}


def available_cores() -> int:
    """What affinity and the control group allow, not what the host has."""
    cores = len(os.sched_getaffinity(0))
    quota = _read_limit("/sys/fs/cgroup/cpu.max").split()
    if len(quota) == 2 and quota[0].isdigit():
        cores = min(cores, max(1, int(quota[0]) // int(quota[1])))
    return cores


def available_memory_gb() -> float:
    """Nine tenths of what is free, or of the control group's limit."""
    lines = Path("/proc/meminfo").read_text().splitlines() if Path("/proc/meminfo").exists() else []
    free = next((int(line.split()[1]) / 1024**2 for line in lines if line.startswith("MemAvailable")), 8.0)
    limit = _read_limit("/sys/fs/cgroup/memory.max")
    if limit.isdigit():
        free = min(free, int(limit) / 1024**3)
    return round(0.9 * free, 1)


def _read_limit(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:  # no control groups of version 2 here
        return ""
