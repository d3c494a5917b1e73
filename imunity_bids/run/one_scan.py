"""A dataset that holds one scan, and a folder of derivatives with its masks: links to the user's files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import SpatialImage

from imunity_bids.bids.outputs import write_json
from imunity_bids.bids.sidecars import BIDS_VERSION
from imunity_bids.errors import Usage
from imunity_bids.image.conform import check_readable

NIFTI = (".nii.gz", ".nii")
GIVEN = "given"  # name of the folder of derivatives in BIDS URIs
MASKS = {"mask": "desc-brain_mask", "lesion": "label-lesion_mask"}  # options, and how their files are called in there


@dataclass(frozen=True)
class OneScan:
    """Where the scan and its masks lie, and whose they are."""

    folder: Path
    scan: str  # what the user calls it
    files: list[Path]  # the user's: the scan, unless it came in memory, and the masks
    names: dict[str, str] = field(repr=False)  # of paths in here and BIDS URIs: what the user calls them

    @property
    def dataset(self) -> Path:
        """The BIDS dataset."""
        return self.folder / "bids"

    @property
    def derivatives(self) -> tuple[str, ...]:
        """For `--derivatives`."""
        masks = self.folder / "masks"
        return (f"{GIVEN}={masks}",) if masks.is_dir() else ()

    @property
    def uri(self) -> str:
        """Of the scan's file; of an image in memory what it is called."""
        return Path(self.scan).absolute().as_uri() if Path(self.scan) in self.files else self.scan

    def message(self, message: str) -> str:
        """A message with the user's names."""
        for inner, outer in self.names.items():
            message = message.replace(inner, outer)
        return message if any(name in message for name in self.names.values()) else f"{self.scan}: {message}"

    def told(self, sidecar: str) -> str:
        """A sidecar's text with the URIs of the user's files in place of BIDS URIs of the masks."""
        for inner, outer in self.names.items():
            if inner.startswith("bids:"):
                sidecar = sidecar.replace(inner, Path(outer).absolute().as_uri())
        return sidecar


def make_one_scan(folder: Path, image: Path | str | SpatialImage, masks: dict[str, Any]) -> OneScan:
    """Fill an empty folder. `masks` are files by the names of `MASKS`, or None.

    Raises
    ------
    Usage, InputMissing
        A file is no NIfTI by its name, or cannot be read.
    """
    path = folder / "bids" / "sub-01" / "anat" / "sub-01_T1w"
    path.parent.mkdir(parents=True)
    write_json(folder / "bids" / "dataset_description.json", {"Name": "one scan", "BIDSVersion": BIDS_VERSION})
    files = []
    if isinstance(image, SpatialImage):
        scan, name = path.with_name("sub-01_T1w.nii"), image.get_filename() or "the scan"
        nib.Nifti1Image(np.asanyarray(image.dataobj), image.affine, image.header).to_filename(scan)
    else:
        scan, name = _linked(Path(image), path), str(image)
        files.append(Path(image))
    names = {str(scan): name}
    for option, given in masks.items():
        if given is not None:
            mask = _linked(Path(given), folder / "masks" / "sub-01" / "anat" / f"sub-01_{MASKS[option]}")
            names |= dict.fromkeys((str(mask), f"bids:{GIVEN}:sub-01/anat/{mask.name}"), str(given))
            files.append(Path(given))
    return OneScan(folder, name, files, names)


def _linked(file: Path, stem: Path) -> Path:
    extension = next((end for end in NIFTI if file.name.endswith(end)), None)
    if extension is None:
        raise Usage(f"{file}: scans and masks are NIfTI, .nii.gz or .nii; convert it first")
    check_readable(file)
    stem.parent.mkdir(parents=True, exist_ok=True)
    link = stem.with_name(stem.name + extension)
    link.symlink_to(file.absolute())
    return link
