"""The command line of `imunity`: options as in DESIGN, section 3, turned into `Settings`. Imports nothing heavy."""

from __future__ import annotations

import argparse
import tomllib
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from imunity_bids import version
from imunity_bids.bids.spaces import spaces_besides
from imunity_bids.cli.common import HelpFormatter, Parser
from imunity_bids.cli.options import add_compute, add_models, add_preprocessing, check_values
from imunity_bids.errors import InputMissing, UnknownLevel, Usage
from imunity_bids.settings import Settings

LEVELS = ("participant", "group")
FLAG = argparse.BooleanOptionalAction


def build_parser(where: str = "imunity") -> Parser:
    """Names and defaults; `docs/options.md` is made from this. Errors begin with `where` the options come from."""
    parser = Parser(
        where,
        description="Harmonize the T1-weighted images of a BIDS dataset with ImUnity.",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("bids_dir", type=Path, help="BIDS dataset; nothing is ever written into it")
    parser.add_argument("output_dir", type=Path, help="derivative dataset")
    parser.add_argument("level", help="participant: harmonize; group: compare the sites, gather all measures")
    parser.add_argument("--version", action="version", version=f"imunity-bids {version()}")
    parser.add_argument("-v", "--verbose", action="count", default=0, dest="verbosity", help="say more")
    _add_selection(parser.add_argument_group("which images"))
    _add_sites(parser.add_argument_group("sites and biology"))
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
        "--exclude-participant-label", "--exclude_participant_label", nargs="+", default=[], dest="excluded",
        metavar="LABEL", help="who is left out, in the same ways; also out of the mean of a site",
    )  # fmt: skip
    group.add_argument(
        "--session-label", "--session_label", nargs="+", default=[], dest="sessions", metavar="LABEL",
        help="with or without ses-",
    )  # fmt: skip
    group.add_argument(
        "--bids-filter-file", type=Path, metavar="FILE",
        help='JSON as for fMRIPrep, {"t1w": {"acquisition": "…"}}; "suffix": "UNIT1" takes the uniform images of '
        "MP2RAGE, which else stand in where a session has no T1w image",
    )  # fmt: skip
    group.add_argument("--bids-database-dir", type=Path, metavar="DIR", help="pybids database to use or create")
    group.add_argument(
        "--skip-bids-validation", action=FLAG, default=False, help="do not check dataset_description.json"
    )

    group.add_argument(
        "--derivatives", nargs="+", default=[], metavar="[NAME=]DIR",
        help="folders of derivatives: a *_desc-brain_mask there is used instead of a computed one, and "
        "*_label-lesion_mask or _roi is kept out of all estimates; the first folder counts first",
    )  # fmt: skip


def _add_reference(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--reference", action="append", dest="references", metavar="REF",
        help="contrast to harmonize to: default (the bundle's), a T1w file, sub-XX[_ses-YY], or site:NAME; "
        "may be given several times",
    )  # fmt: skip
    group.add_argument(
        "--reference-dataset", default="", metavar="[NAME=]DIR",
        help="raw BIDS dataset in which --reference sub-XX[_ses-YY] and site:NAME are looked up (default: BIDS_DIR)",
    )  # fmt: skip
    group.add_argument(
        "--curve", choices=("scan", "site"), default="scan",
        help="scan: an intensity curve for every scan; site: one for all scans of a site, from the mean contrast of "
        "the first ten persons there",
    )  # fmt: skip
    add_models(group)


def _add_sites(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--site-column", default="site", metavar="NAME",
        help="column of participants.tsv: for --reference site:NAME, for --curve site and for the group level; these "
        "two take the scanner from the sidecars of the scans without it",
    )  # fmt: skip
    group.add_argument(
        "--keep", nargs="+", default=[], metavar="COLUMN",
        help="group level: columns of participants.tsv whose association with tissue volumes is to be kept, besides "
        "age and sex",
    )  # fmt: skip


def _add_preprocessing(group: argparse._ArgumentGroup) -> None:
    add_preprocessing(group)
    group.add_argument(
        "--longitudinal", action=FLAG, default=False,
        help="all scans of a person share one mask and one affine through a space midway between them",
    )  # fmt: skip
    group.add_argument("--save-bias-field", action=FLAG, default=False, help="write the field, on the scan's voxels")
    group.add_argument(
        "--output-spaces", nargs="+", default=["template"], metavar="SPACE",
        help="where else to write the harmonized image: T1w (the scan's own voxels), template:res-N, or "
        "NAME[:cohort-N][:res-N] of TemplateFlow; template, the models' space at 1 mm, is always written",
    )  # fmt: skip


def _add_resources(group: argparse._ArgumentGroup) -> None:
    add_compute(group)
    group.add_argument("--nprocs", type=int, metavar="N", help="images or steps at once (default: the cores allowed)")
    group.add_argument("--omp-nthreads", type=int, metavar="N", help="threads per step (default: shared out)")
    group.add_argument("--mem-gb", type=float, metavar="GB", help="memory (default: what is allowed)")
    group.add_argument("--use-plugin", type=Path, dest="plugin_file", metavar="FILE", help="Nipype plugin as YAML")


def _add_operation(group: argparse._ArgumentGroup) -> None:
    group.add_argument("-w", "--work-dir", type=Path, metavar="DIR", help="scratch (default: OUTPUT_DIR/.imunity_work)")
    group.add_argument("--clean-workdir", action=FLAG, default=False, help="empty the folder of -w first")
    group.add_argument("--force", action=FLAG, default=False, help="redo what is done already")
    group.add_argument("--stop-on-first-crash", action=FLAG, default=False, help="do not go on with the other images")
    group.add_argument("--dry-run", action=FLAG, default=False, help="list what would run")
    group.add_argument("--reports-only", action=FLAG, default=False, help="write reports and tables of what is there")
    group.add_argument("--write-graph", action=FLAG, default=False, help="draw the workflow into logs/")
    group.add_argument("--random-seed", type=int, default=1, metavar="N", help="of the registration's sampling")
    group.add_argument("--config-file", type=Path, metavar="FILE", help="TOML of options, as written into logs/")


def parse(arguments: list[str] | None = None) -> Settings:
    """Settings of a run: what is typed, else what the configuration file says, else the defaults.

    Raises
    ------
    UnknownLevel, Usage, InputMissing
        Wrong level; wrong values or a wrong configuration file; a file that is not there.
    """
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.config_file:
        typed = _given(parser, arguments)
        written = _given(build_parser(f"--config-file {options.config_file}"), _read_config(options.config_file))
        options = argparse.Namespace(**{**vars(options), **vars(written), **vars(typed)})
    if options.level not in LEVELS:
        raise UnknownLevel(f"unknown analysis level {options.level}: participant or group")
    check_values(options)
    spaces_besides(options.output_spaces, options.template)  # are they spaces at all?
    return _settings(options)


def options_in_full(arguments: list[str]) -> tuple[list[str], list[Path]]:
    """The options that are typed, as words that mean the same in any folder, and the paths among them."""
    settings, parser = parse(arguments), build_parser()
    actions = {action.dest: action for action in parser._actions if action.option_strings}
    words: list[str] = []
    paths: list[Path] = []
    for name, typed in vars(_given(parser, arguments)).items():
        if name not in actions:
            continue
        value = _absolute(typed) if name == "config_file" else getattr(settings, name)
        value = list(value) if isinstance(value, tuple) else value
        words += _as_typed(actions[name], value, Path())
        items = [str(item) for item in (value if isinstance(value, list) else [value])]
        folders = [item.rpartition("=")[2] if name in ("derivatives", "reference_dataset") else item for item in items]
        paths += [Path(folder) for folder in folders if folder.startswith("/")]
    return words, paths


def _given(parser: Parser, arguments: list[str] | None) -> argparse.Namespace:
    """Only what is there, without defaults."""
    for action in parser._actions:
        action.default = argparse.SUPPRESS
    return parser.parse_args(arguments)


def _settings(options: argparse.Namespace) -> Settings:
    from imunity_bids.cli.resources import available_cores, available_memory_gb

    values = {name: value for name, value in vars(options).items() if name in Settings.names()}
    values = {name: _absolute(value) if isinstance(value, Path) else value for name, value in values.items()}
    values |= {
        "participants": _labels(options.participants, "sub-"),
        "excluded": _labels(options.excluded, "sub-"),
        "sessions": _labels(options.sessions, "ses-"),
        "references": tuple(_absolute_if_file(reference) for reference in options.references or ["default"]),
        "reference_dataset": options.reference_dataset and _absolute_folder(options.reference_dataset),
        "derivatives": tuple(_absolute_folder(spec) for spec in options.derivatives),
        "model": _absolute_if_folder(options.model),
        "output_spaces": tuple(options.output_spaces),
        "keep": tuple(options.keep),
        "nprocs": options.nprocs or available_cores(),
        "mem_gb": options.mem_gb or available_memory_gb(),
        "run_id": f"{datetime.now():%Y%m%d-%H%M%S}-{uuid4().hex[:6]}",
    }
    return Settings(**values)


def _absolute(path: Path) -> Path:
    """Steps run in folders of their own, so no path may depend on where the command was given.

    Links stay: a cluster's /data may be mounted elsewhere on each node.
    """
    return path.resolve() if ".." in path.parts else path.absolute()


def _absolute_folder(spec: str) -> str:
    """NAME=DIR or DIR."""
    name, equals, folder = spec.rpartition("=")
    return f"{name}{equals}{_absolute(Path(folder))}"


def _absolute_if_folder(model: str) -> str:
    """A bundle's folder; the name of a shipped one stays a name."""
    from imunity_bids.models.card import SHIPPED

    shipped = (SHIPPED / model / "bundle.json").is_file()
    return model if shipped or not Path(model).is_dir() else str(_absolute(Path(model)))


def _absolute_if_file(reference: str) -> str:
    return str(_absolute(Path(reference))) if reference.endswith((".nii", ".nii.gz")) else reference


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


def _read_config(path: Path) -> list[str]:
    """Options of a TOML file as if they were typed; those of one run only (dataset, output, id) are left out."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputMissing(f"--config-file {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Usage(f"--config-file {path}: {error}") from error
    known = {action.dest: action for action in build_parser()._actions if action.option_strings}
    for name in ("bids_dir", "output_dir", "level", "run_id"):
        content.pop(name, None)
    if unknown := sorted(set(content) - set(known)):
        raise Usage(f"--config-file {path}: unknown options {', '.join(unknown)}")
    words = ["-", "-", "participant"]  # the positional arguments, which are those of the command line
    for name, value in content.items():
        words += _as_typed(known[name], value, path)
    return words


def _as_typed(action: argparse.Action, value: Any, path: Path) -> list[str]:
    """The words that give an option this value."""
    option = action.option_strings[0]
    if isinstance(action, argparse.BooleanOptionalAction):
        if not isinstance(value, bool):
            raise Usage(f"--config-file {path}: {action.dest} = {value!r} must be true or false")
        return [option if value else action.option_strings[-1]]
    if action.dest == "verbosity":
        if not isinstance(value, int):
            raise Usage(f"--config-file {path}: verbosity = {value!r} must be a number")
        return [option] * value
    values = [str(item) for item in (value if isinstance(value, list) else [value])]
    if action.nargs == "+":
        return [option, *values] if values else []
    return [f"{option}={item}" if option.startswith("--") else f"{option}{item}" for item in values]
