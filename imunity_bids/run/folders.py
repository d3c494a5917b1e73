"""Which folders a run may write into or empty: never the dataset, never somebody else's."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from imunity_bids.bids.description import DESCRIPTION, read_description
from imunity_bids.bids.links import reference_folder
from imunity_bids.bids.sidecars import APP
from imunity_bids.errors import OutputImpossible, Usage
from imunity_bids.settings import Settings

MARKER = ".imunity-work"  # stands in a work folder that the app itself made; no other is ever emptied
OURS = (DESCRIPTION, "README.md", ".bidsignore", "descriptions.tsv", "descriptions.json")


def check_folders(settings: Settings) -> None:
    """Raise unless output and work folder keep clear of the dataset, of each other, and of what others made.

    Paths are compared after symbolic links and `..` are resolved.

    Raises
    ------
    Usage
        A folder is the dataset, above it or inside it (`BIDS_DIR/derivatives/NAME` may be the output), or holds
        something that is not ours.
    """
    dataset, out = settings.bids_dir.resolve(), settings.output_dir.resolve()
    keep_apart("OUTPUT_DIR", out, dataset, except_below=dataset / "derivatives")
    if reference := reference_folder(settings):
        other, name = reference[1].resolve(), "--reference-dataset"
        keep_apart("OUTPUT_DIR", out, other, except_below=other / "derivatives", name=name)
        if settings.work_dir:
            keep_apart("--work-dir", settings.work_dir.resolve(), other, except_below=out, name=name)
    _check_owner(out)
    if settings.bids_database_dir:
        keep_apart("--bids-database-dir", settings.bids_database_dir.resolve(), dataset, except_below=out)
    if settings.work_dir is None:
        return
    work = settings.work_dir.resolve()
    keep_apart("--work-dir", work, dataset, except_below=out)
    if work == out or work in out.parents:
        raise Usage(f"--work-dir {work} holds OUTPUT_DIR {out}; name a folder of its own")
    if settings.clean_workdir and not _is_own_work_folder(work):
        raise Usage(
            f"--clean-workdir: {work} was not made by this app (there is no {MARKER} in it), so it is not emptied; "
            "empty it yourself or name a new folder"
        )


def make_output(settings: Settings) -> None:
    """Make the output folder and its logs.

    Raises
    ------
    OutputImpossible
        They cannot be made or written.
    """
    out = settings.output_dir
    try:
        settings.logs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputImpossible(f"OUTPUT_DIR {out} cannot be created: {error.strerror}") from error
    if not os.access(out, os.W_OK) or not os.access(settings.logs, os.W_OK):
        raise OutputImpossible(f"OUTPUT_DIR {out} cannot be written: permission denied")


def make_work_folder(folder: Path, clean: bool) -> None:
    """The user's work folder, marked as ours if it is new or empty; emptied first if that is asked and it is ours."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if clean and _is_own_work_folder(folder):
            _empty(folder)
        if not any(folder.iterdir()):
            (folder / MARKER).touch()
    except OSError as error:
        raise OutputImpossible(f"--work-dir {folder} cannot be used: {error.strerror}") from error


def keep_apart(
    option: str, folder: Path, dataset: Path, except_below: Path | None = None, name: str = "BIDS_DIR"
) -> None:
    """Raise where a folder is the dataset, which the user gave as `name`, above it or in it; both paths are resolved.

    Raises
    ------
    Usage
        It is, and does not lie below the folder that is allowed.
    """
    if except_below in folder.parents:
        return
    relations = ((folder == dataset, "is"), (folder in dataset.parents, "holds"), (dataset in folder.parents, "is in"))
    for true, relation in relations:
        if true:
            raise Usage(
                f"{option} {folder} {relation} {name} {dataset}; nothing is ever written into a source "
                f"dataset, name another folder (OUTPUT_DIR may be {name}/derivatives/NAME)"
            )


def _check_owner(out: Path) -> None:
    there = [name for name in OURS if (out / name).exists()]
    if not there:
        return
    makers = read_description(out).get("GeneratedBy")
    makers = makers if isinstance(makers, list) else []
    if not any(isinstance(maker, dict) and maker.get("Name") == APP for maker in makers):
        raise Usage(f"OUTPUT_DIR {out} holds something else ({', '.join(there)}); name a new or empty folder")


def _is_own_work_folder(folder: Path) -> bool:
    return not folder.is_dir() or (folder / MARKER).is_file() or not any(folder.iterdir())


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
