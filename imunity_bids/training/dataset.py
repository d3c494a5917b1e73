"""White-striped brains from folders, with their sites and their rows of participants.tsv."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from torch import Tensor

from imunity_bids.bids.participants import read_participants
from imunity_bids.errors import InputMissing


@dataclass(frozen=True, eq=False)
class Brain:
    """One white-striped brain (X, Y, Z), float16, zero outside, its site's number and its row of participants.tsv."""

    name: str
    site: int
    volume: Tensor
    traits: dict[str, str] = field(default_factory=dict)
    zooms: tuple[float, float, float] = (1.0, 1.0, 1.0)  # mm


def load_brains(
    folders: list[Path], site_column: str = "site", exclude: Sequence[str] = ()
) -> tuple[list[Brain], list[str]]:
    """White-striped brains below the folders, and the names of the sites, the first folder's first.

    A folder is a derivative dataset of the participant level, or holds white-striped volumes. The site is the column
    `site_column` of its participants.tsv; without one the folder is a site. What matches one of the glob patterns
    `exclude` is left out.

    Raises
    ------
    InputMissing
        A folder holds no such volume.
    """
    files: list[tuple[str, dict[str, str], Path]] = []
    for folder in folders:
        paths = sorted(folder.glob("**/*_space-*_desc-preproc_T1w.nii.gz")) or sorted(folder.glob("*.nii*"))
        if not paths:
            raise InputMissing(f"{folder} holds no white-striped volume (*_space-*_desc-preproc_T1w.nii.gz)")
        participants = read_participants(folder)
        for path in (p for p in paths if not any(p.match(pattern) for pattern in exclude)):
            traits = participants.get(path.name.split("_")[0].split(".")[0], {})
            files.append((traits.get(site_column, folder.name), traits, path))
    names = list(dict.fromkeys(site for site, _, _ in files))
    brains = []
    for site, traits, path in files:
        image = nib.load(path)
        data = np.asarray(image.dataobj, dtype=np.float32)
        used = np.argwhere(data > 0)
        box = tuple(slice(low, high + 1) for low, high in zip(used.min(0), used.max(0), strict=True))
        volume = torch.from_numpy(np.ascontiguousarray(data[box])).half()
        brains.append(Brain(path.name, names.index(site), volume, traits, image.header.get_zooms()[:3]))
    return brains, names


def hold_out(brains: list[Brain], count: int) -> tuple[list[Brain], list[Brain]]:
    """Brains to train on and brains to validate on, the last `count` of every site.

    A site with no more than `count` brains holds none out; where no site does, all brains are in both lists.
    """
    held_out = []
    for site in sorted({brain.site for brain in brains}):
        members = [brain for brain in brains if brain.site == site]
        held_out += members[-count:] if len(members) > count > 0 else []
    return [brain for brain in brains if brain not in held_out], held_out or brains
