"""Everything a run depends on, decided once by the parser, written as TOML, never changed."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

DEFAULT_TEMPLATE = "MNI152NLin2009cAsym"


@dataclass(frozen=True)
class Settings:
    """One run of the participant or group level."""

    bids_dir: Path
    output_dir: Path
    level: str = "participant"
    participants: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()
    bids_filter_file: Path | None = None
    bids_database_dir: Path | None = None
    skip_bids_validation: bool = False
    derivatives: tuple[str, ...] = ()  # NAME=DIR or DIR: masks that were made before
    references: tuple[str, ...] = ("default",)
    reference_dataset: str = ""  # NAME=DIR or DIR: where participants and sites of references are looked up
    site_column: str = "site"
    keep: tuple[str, ...] = ()
    reference_slices: int = 9
    model: str = "imunity"
    denoise: str = "none"
    skull_strip: str = "auto"
    brain_model: Path | None = None
    brain_border: float = 0.0
    synthstrip_model: Path | None = None
    registration: str = "affine"
    longitudinal: bool = False
    bias_correction: str = "white-matter"
    save_bias_field: bool = False
    noise: str = "match"
    target_fwhm: str = "none"  # none, reference, or mm
    curve: str = "scan"  # whose contrast it is made from: scan, site
    template: str = DEFAULT_TEMPLATE
    output_spaces: tuple[str, ...] = ("template",)
    device: str = "auto"
    batch_size: int | None = None  # what suits the device
    precision: str = "float32"
    nprocs: int = 1
    omp_nthreads: int | None = None  # shared out once the number of images is known
    mem_gb: float = 4.0
    plugin_file: Path | None = None
    work_dir: Path | None = None
    clean_workdir: bool = False
    force: bool = False
    stop_on_first_crash: bool = False
    dry_run: bool = False
    reports_only: bool = False
    write_graph: bool = False
    random_seed: int = 1
    verbosity: int = 0
    run_id: str = ""

    @property
    def logs(self) -> Path:
        """Where logs, crash files and this object go."""
        return self.output_dir / "logs"

    @property
    def scratch(self) -> Path:
        """Work folder: the user's, or one inside the output, the only place sure to be writable in a container."""
        return self.work_dir or self.output_dir / ".imunity_work"

    def shared_out(self, images: int) -> Settings:
        """With threads per step, where the user did not say: all cores for one image, else one core for each."""
        threads = self.omp_nthreads or max(1, min(8, self.nprocs // max(1, images)))
        return replace(self, omp_nthreads=min(threads, self.nprocs))

    def to_toml(self) -> str:
        """All options, as `--config-file` reads them."""
        import tomli_w

        return tomli_w.dumps({name: _plain(value) for name, value in asdict(self).items() if value is not None})

    @classmethod
    def names(cls) -> set[str]:
        """Names of all options."""
        return {field.name for field in fields(cls)}


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value


def as_command(words: list[str], setup: Any, left_out: Collection[str]) -> str:
    """What to type for the same setup (a dataclass): `words`, then every option that is not the default."""
    given = {field.name: getattr(setup, field.name) for field in fields(setup)}
    return as_typed(words, given, {field.name: field.default for field in fields(setup)}, left_out)


def as_typed(words: list[str], given: Mapping[str, Any], plain: Mapping[str, Any], left_out: Collection[str]) -> str:
    """`words`, then every option whose value is not the `plain` one, quoted for a shell.

    Paths go by their names only: a card travels.
    """
    options: list[str] = []
    for name, value in given.items():
        if name in left_out or value == plain[name]:
            continue
        options.append(f"--{name.replace('_', '-')}")
        if value is not True:
            parts = value if isinstance(value, tuple | list) else [value]
            options += [part.name if isinstance(part, Path) else str(part) for part in parts]
    return " ".join([*words, *map(shlex.quote, options)])
