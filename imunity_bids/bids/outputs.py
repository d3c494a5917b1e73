"""Names of derivatives, and files that appear whole or not at all."""

from __future__ import annotations

import fcntl
import json
import math
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import nibabel as nib
import numpy as np

from imunity_bids.bids.scan import T1w, place

SAME_AS = "SameBrainAs"  # field of a sidecar: the image in the models' space that this one shows in another space
TEMPORARY = ".imunity-"  # how names begin while a file is being written


def derivative(output_dir: Path, source: T1w, suffix: str, extension: str, **entities: str) -> Path:
    """Path of a derivative: all entities of the source, new ones in BIDS order, `desc` last."""
    pairs = source.named | entities
    name = "_".join(f"{key}-{pairs[key]}" for key in sorted(pairs, key=place))
    return anat_folder(output_dir, source) / f"{name}_{suffix}{extension}"


def transform_path(output_dir: Path, source: T1w, start: str, end: str) -> Path:
    """Path of an ITK transform."""
    return anat_folder(output_dir, source) / f"{source.stem}_from-{start}_to-{end}_mode-image_xfm.mat"


def anat_folder(output_dir: Path, source: T1w) -> Path:
    """`sub-X[/ses-Y]/anat` of the derivative dataset."""
    folder = output_dir / f"sub-{source.subject}"
    return (folder / f"ses-{source.session}" if source.session else folder) / "anat"


def write_atomically(path: Path, write: Callable[[Path], Any]) -> Path:
    """Let `write` fill a temporary file of the same folder and extension, then rename it once it is on the disk.

    The file is locked meanwhile: one that nobody holds was left by a run that was killed (`remove_strays`). Its mode is
    what the umask says, whatever `write` makes of it: a group may share the folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    extension = "".join(path.suffixes[-2:]) if path.name.endswith(".gz") else path.suffix
    temporary = path.with_name(f"{TEMPORARY}{uuid4().hex[:12]}{extension}")
    try:
        with open(temporary, "xb") as held:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(held, fcntl.LOCK_EX)
            mode = os.fstat(held.fileno()).st_mode
            write(temporary)
            temporary.chmod(mode)
            with open(temporary, "rb") as written:
                os.fsync(written.fileno())
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def remove_strays(folder: Path) -> None:
    """Remove the temporary files of a folder that no process holds any more."""
    for stray in folder.glob(f"{TEMPORARY}*"):
        with suppress(OSError), open(stray, "rb") as file:  # held, gone meanwhile, or no locks here
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            stray.unlink()


def write_text(path: Path, text: str) -> Path:
    """UTF-8 text, atomically."""
    return write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, content: Any) -> Path:
    """JSON that every parser reads: no NaN, no Infinity."""
    return write_text(path, json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def plain(content: Any) -> Any:
    """For JSON, which knows neither NaN nor infinity, nor numpy's types."""
    if isinstance(content, dict):
        return {name: plain(part) for name, part in content.items()}
    if isinstance(content, list):
        return [plain(part) for part in content]
    content = content.item() if isinstance(content, np.generic) else content
    return None if isinstance(content, float) and not math.isfinite(content) else content


def write_nifti(path: Path, data: np.ndarray, affine: np.ndarray, code: int) -> Path:
    """NIfTI with qform = sform and their `code` (1 scanner, 4 template), mm; the type is that of `data`.

    What killed runs left half-written in the folder goes.
    """
    remove_strays(path.parent)
    image = nib.Nifti1Image(data, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code=code)
    image.set_qform(affine, code=code)
    return write_atomically(path, image.to_filename)


def brought_elsewhere(image: Path) -> bool:
    """True for what another space was asked for, False for what lies where the models worked, by the sidecar."""
    sidecar = sidecar_of(image)
    return sidecar.is_file() and f'"{SAME_AS}"' in sidecar.read_text(encoding="utf-8")


def sidecar_of(path: Path) -> Path:
    """The JSON beside an image."""
    return path.with_name(path.name.split(".nii")[0] + ".json")
