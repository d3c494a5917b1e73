"""Scans to learn from: derivatives of the participant level, small enough that a network trains on them in minutes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from imunity_bids.bids.outputs import brought_elsewhere
from imunity_bids.bids.participants import read_participants, sex_of
from imunity_bids.errors import DataUnusable, InputMissing

FIELD_MM = (168.0, 204.0, 168.0)  # around the middle of the brain
MISSING = ("", "n/a", "nan")


def stated(traits: Mapping[str, str], column: str) -> str | None:
    """What a row of participants.tsv says, None where it is missing; "none" may be a diagnosis."""
    value = traits.get(column, "").strip()
    return None if value.lower() in MISSING else value


@dataclass(frozen=True)
class Scan:
    """One image of a derivative dataset."""

    path: Path
    participant: str  # sub-…
    folder: str  # of the dataset, the site where no column names one
    traits: dict[str, str]  # row of participants.tsv

    def trait(self, column: str) -> str | None:
        """Its value, None where it is missing; sex as M or F, also where a dataset has it as `gender` or in words."""
        return (column == "sex" and sex_of(self.traits)) or stated(self.traits, column)


@dataclass(frozen=True)
class Grid:
    """How an image becomes a small volume of even size, and back."""

    shape: tuple[int, int, int]  # of the image
    start: tuple[float, float, float]  # of the field of view, voxels of the image
    length: tuple[float, float, float]  # of the field of view, voxels of the image
    small: tuple[int, int, int]  # of the volume

    def reduce(self, data: np.ndarray, labels: bool = False) -> Tensor:
        """Values on the small grid: means over about a voxel of it, or for labels the nearest; 0 beyond the image."""
        image = torch.from_numpy(np.ascontiguousarray(data, dtype=np.float32))
        step = [length / n for length, n in zip(self.length, self.small, strict=True)]
        if not labels:
            for axis, size in enumerate(step):  # one after the other: of 8 mm a tenth of the time
                width = 1 + 2 * round((size - 1) / 2) if size > 1 else 1
                window = [width if axis == other else 1 for other in range(3)]
                image = F.avg_pool3d(image[None, None], window, 1, [w // 2 for w in window])[0, 0]
        return self._look(image, self._places(), "nearest" if labels else "bilinear")

    def restore(self, classes: Tensor) -> np.ndarray:
        """Class numbers (X, Y, Z) on the grid of the image, the nearest; 0 beyond the field of view."""
        axes = []
        for n, start, length, small in zip(self.shape, self.start, self.length, self.small, strict=True):
            axes.append((torch.arange(n) + 0.5 - start) / length * small - 0.5)
        found = self._look(classes.float(), torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1), "nearest")
        return found.round().to(torch.uint8).numpy()

    def _places(self) -> Tensor:
        axes = []
        for start, length, small in zip(self.start, self.length, self.small, strict=True):
            axes.append(start + (torch.arange(small) + 0.5) / small * length - 0.5)
        return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)

    @staticmethod
    def _look(volume: Tensor, places: Tensor, mode: str) -> Tensor:
        size = torch.tensor(volume.shape)
        relative = ((2 * places + 1) / size - 1).flip(-1)
        return F.grid_sample(volume[None, None], relative[None].float(), mode=mode, align_corners=False)[0, 0]


def find_scans(folders: list[Path], description: str | None = None) -> list[Scan]:
    """T1w images in template space below the folders, with their rows of participants.tsv.

    Parameters
    ----------
    folders
        Derivative datasets of the participant level.
    description
        `desc-` of the images; without it the harmonized ones where a folder has them, else the preprocessed ones.

    Raises
    ------
    InputMissing
        A folder holds none.
    """
    found = []
    for folder in folders:
        tried = [description] if description else ["harmonized", "preproc"]
        paths = next(filter(None, (_images(folder, one) for one in tried)), [])
        if not paths:
            raise InputMissing(f"{folder} holds no *_space-*_desc-{' or -'.join(tried)}_T1w.nii.gz")
        rows = read_participants(folder)
        names = [path.name.split("_")[0] for path in paths]
        found += [Scan(p, name, folder.name, rows.get(name, {})) for p, name in zip(paths, names, strict=True)]
    return found


def _images(folder: Path, description: str) -> list[Path]:
    """In the models' space; other spaces show the same brains."""
    paths = sorted(folder.glob(f"**/*_space-*_desc-{description}_T1w.nii.gz"))
    return [path for path in paths if not brought_elsewhere(path)]


def load_scan(path: Path, spacing_mm: float) -> tuple[Tensor, Grid]:
    """The image on the small grid, (X, Y, Z) float32 of mean 0 and deviation 1 (section 2.4.1), and that grid.

    Raises
    ------
    DataUnusable
        It is empty or not finite.
    """
    image = nib.load(path)
    data = np.asarray(image.dataobj, dtype=np.float32)
    if not np.isfinite(data).all() or not data.any():
        raise DataUnusable(f"{path} is empty, or has values that are no numbers")
    where = np.argwhere(data > 0)
    middle = (where.min(0) + where.max(0) + 1) / 2
    zooms = np.array(image.header.get_zooms()[:3], dtype=float)
    small = tuple(round(length / spacing_mm) for length in FIELD_MM)
    length = np.array(small) * spacing_mm / zooms
    grid = Grid(data.shape, tuple(middle - length / 2), tuple(length), small)
    return standardised(grid.reduce(data)), grid


def standardised(volume: Tensor) -> Tensor:
    """Mean 0 and standard deviation 1 over the whole field of view."""
    return (volume - volume.mean()) / volume.std().clamp(min=1e-6)
