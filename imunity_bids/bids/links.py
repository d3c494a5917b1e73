"""The other datasets of a run, by their names in BIDS URIs: derivatives with masks, and that of the references."""

from __future__ import annotations

from pathlib import Path

from imunity_bids.bids.scan import RAW
from imunity_bids.errors import InputMissing, Usage
from imunity_bids.settings import Settings


def derivative_folders(specs: tuple[str, ...], bids_dir: Path, output_dir: Path) -> dict[str, Path]:
    """Folders by the names that BIDS URIs give them; the first is searched first. `specs` are NAME=DIR or DIR.

    Raises
    ------
    InputMissing
        A folder is not there.
    Usage
        Two have one name, a name is "raw" or has other signs than letters, digits, `-`, `_` and `.`, or a folder is the
        dataset or the output.
    """
    folders: dict[str, Path] = {}
    for spec in specs:
        name, folder = _named("--derivatives", spec)
        if name in folders:
            raise Usage(f"--derivatives: two folders are called {name}; give one another name, NAME=DIR")
        if folder.resolve() in (bids_dir.resolve(), output_dir.resolve()):
            raise Usage(
                f"--derivatives {folder} is BIDS_DIR or OUTPUT_DIR; name the folder of another program's results"
            )
        folders[name] = folder
    return folders


def reference_folder(settings: Settings) -> tuple[str, Path] | None:
    """Name and folder of `--reference-dataset`; None where references are of the dataset itself.

    Raises
    ------
    InputMissing, Usage
        As `derivative_folders`; or the folder is that of a derivative, of the dataset or of the output.
    """
    if not settings.reference_dataset:
        return None
    name, folder = _named("--reference-dataset", settings.reference_dataset)
    if folder.resolve() in (settings.bids_dir.resolve(), settings.output_dir.resolve()):
        raise Usage(
            f"--reference-dataset {folder} is BIDS_DIR or OUTPUT_DIR; references of BIDS_DIR need no such option"
        )
    if name in derivative_folders(settings.derivatives, settings.bids_dir, settings.output_dir):
        raise Usage(f"--reference-dataset: a folder of --derivatives is called {name}, too; give it another, NAME=DIR")
    return name, folder


def linked_folders(settings: Settings) -> dict[str, Path]:
    """All other datasets of a run, by name; raises what the two functions above raise."""
    reference = reference_folder(settings)
    folders = derivative_folders(settings.derivatives, settings.bids_dir, settings.output_dir)
    return folders | ({reference[0]: reference[1]} if reference else {})


def _named(option: str, spec: str) -> tuple[str, Path]:
    """Name and folder of NAME=DIR or DIR."""
    name, equals, folder = spec.rpartition("=")
    path = Path(folder)
    name = name if equals else path.name
    if not path.is_dir():
        raise InputMissing(f"{option} {path}: no such folder")
    if name in ("", RAW) or not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise Usage(f"{option} {spec}: give it another name, NAME={path} (letters and digits, not {RAW})")
    return name, path
