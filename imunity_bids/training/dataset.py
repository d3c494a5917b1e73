"""Pairs of slices from white-striped brains: S1 gives the anatomy, S2 of the same brain the contrast (2.2.1)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlparse

import nibabel as nib
import numpy as np
import pandas as pd
import torch
from skimage.filters import threshold_multiotsu
from torch import Tensor

from imunity_bids.errors import InputMissing, Usage
from imunity_bids.models.card import AXES
from imunity_bids.models.quantiles import quantiles

APART = 10  # slices between S1 and S2 at least
BRAIN_SHARE = 0.01  # of a slice that is used


@dataclass(frozen=True, eq=False)
class Brain:
    """One white-striped brain (X, Y, Z), float16, zero outside, its site's number and its row of participants.tsv."""

    name: str
    site: int
    volume: Tensor
    traits: dict[str, str] = field(default_factory=dict)
    zooms: tuple[float, float, float] = (1.0, 1.0, 1.0)  # mm

    @cached_property
    def means(self) -> Tensor:
        """Mean intensities of CSF and gray matter: the two darker of three Otsu classes."""
        values = self.volume[self.volume > 0].float().numpy()
        classes = np.digitize(values, threshold_multiotsu(values, classes=3, nbins=128))
        return torch.tensor([float(values[classes == index].mean()) for index in (0, 1)])


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
    found: list[tuple[str, dict[str, str], Path]] = []
    for folder in folders:
        paths = sorted(folder.glob("**/*_space-*_desc-preproc_T1w.nii.gz")) or sorted(folder.glob("*.nii*"))
        if not paths:
            raise InputMissing(f"{folder} holds no white-striped volume (*_space-*_desc-preproc_T1w.nii.gz)")
        participants = _participants(folder)
        for path in (p for p in paths if not any(p.match(pattern) for pattern in exclude)):
            traits = participants.get(path.name.split("_")[0].split(".")[0], {})
            found.append((traits.get(site_column, folder.name), traits, path))
    names = list(dict.fromkeys(site for site, _, _ in found))
    brains = []
    for site, traits, path in found:
        image = nib.load(path)
        data = np.asarray(image.dataobj, dtype=np.float32)
        used = np.argwhere(data > 0)
        box = tuple(slice(low, high + 1) for low, high in zip(used.min(0), used.max(0), strict=True))
        volume = torch.from_numpy(np.ascontiguousarray(data[box])).half()
        brains.append(Brain(path.name, names.index(site), volume, traits, image.header.get_zooms()[:3]))
    return brains, names


def hold_out(brains: list[Brain], count: int) -> tuple[list[Brain], list[Brain]]:
    """Brains to train on and, the last `count` of every site, to judge by; the same ones where a site has no more."""
    judges = []
    for site in sorted({brain.site for brain in brains}):
        members = [brain for brain in brains if brain.site == site]
        judges += members[-count:] if len(members) > count > 0 else []
    return [brain for brain in brains if brain not in judges], judges or brains


def _participants(folder: Path) -> dict[str, dict[str, str]]:
    """Rows of the folder's participants.tsv, or of that of the raw dataset which its description names."""
    path, description = folder / "participants.tsv", folder / "dataset_description.json"
    if not path.is_file() and description.is_file():
        raw = json.loads(description.read_text(encoding="utf-8")).get("DatasetLinks", {}).get("raw", "")
        path = Path(unquote(urlparse(raw).path)) / "participants.tsv"
    if not path.is_file():
        return {}
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    return {row["participant_id"]: row for row in table.to_dict("records")}


class Batch(NamedTuple):
    """Pairs of slices and what is known of their brains."""

    one: Tensor  # S1, (B, 1, crop, crop) float32, with some brain in each
    two: Tensor  # S2 of the same brain
    means: Tensor  # of CSF and gray matter, (B, 2)
    own: Tensor  # intensity quantiles of the brain, (B, Q)
    other: Tensor  # of another brain of the same site
    site: Tensor  # (B)
    brain: Tensor  # number of the brain, (B)


def check_batch_size(size: int, sites: int) -> None:
    """Every batch holds a slice of each site (Dinsdale 2020, section 2.4), so it must be as long as there are sites.

    Raises
    ------
    Usage
        It is shorter.
    """
    if size < sites:
        raise Usage(
            f"--batch {size} is too small for {sites} sites: each batch holds a slice of every site, with and without "
            f"unlearning, or some sites would never be trained on; give --batch {sites} or more"
        )


class Pairs:
    """Random crops of S1 and S2 along one axis; every batch has a slice of each site."""

    def __init__(self, brains: list[Brain], axis: str, crop: int = 96):
        self.stacks = [brain.volume.movedim(AXES.index(axis), 0) for brain in brains]
        self.crop = crop
        self.usable = [
            torch.nonzero((stack > 0).float().mean(dim=(1, 2)) >= BRAIN_SHARE).flatten() for stack in self.stacks
        ]
        self.means = torch.stack([brain.means for brain in brains])
        self.quantiles = torch.stack([quantiles(brain.volume[brain.volume > 0]) for brain in brains])
        self.sites = torch.tensor([brain.site for brain in brains])
        self.by_site = [torch.nonzero(self.sites == site).flatten() for site in self.sites.unique()]

    def batch(self, size: int, g: torch.Generator) -> Batch:
        """As many pairs, in turn from each site.

        Raises
        ------
        Usage
            There are more sites than pairs.
        """
        check_batch_size(size, len(self.by_site))
        chosen, others = [], []
        for index in range(size):
            members = self.by_site[index % len(self.by_site)]
            for drawn in (chosen, others):
                drawn.append(int(members[torch.randint(len(members), (1,), generator=g)]))
        pairs = [self._pair(brain, g) for brain in chosen]
        first, second = (torch.stack(part)[:, None].float() for part in zip(*pairs, strict=True))
        return Batch(
            one=first,
            two=second,
            means=self.means[chosen],
            own=self.quantiles[chosen],
            other=self.quantiles[others],
            site=self.sites[chosen],
            brain=torch.tensor(chosen),
        )

    def _pair(self, brain: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
        usable = self.usable[brain]
        one = usable[torch.randint(len(usable), (1,), generator=g)]
        far = usable[(usable - one).abs() >= APART]
        two = far[torch.randint(len(far), (1,), generator=g)]
        return self._crop(self.stacks[brain][int(one)], g), self._crop(self.stacks[brain][int(two)], g)

    def _crop(self, image: Tensor, g: torch.Generator) -> Tensor:
        """A window around a random pixel of the brain, zeros beyond the image."""
        half = self.crop // 2
        pixels = torch.nonzero(image > 0)
        row, column = pixels[torch.randint(len(pixels), (1,), generator=g)][0].tolist()
        padded = torch.nn.functional.pad(image, (half, half, half, half))
        return padded[row : row + self.crop, column : column + self.crop]
