"""Many persons on many scanners, as coarse volumes with their truth: what the harmonizer's generators learn from.

Persons are made and imaged by the same physics as in the evaluation with traveling subjects (`visits`), but they are
other persons, protocols and tissue parameters are random ones (`protocols.draw_protocols`), and what the correction
leaves of the fields has another form. Volumes hold every second voxel of 1 mm along each axis, not means of eight:
noise and edges are those of the full resolution.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from joblib import Parallel, delayed
from scipy import ndimage
from torch import Tensor
from tqdm import tqdm

from imunity_bids.bids.outputs import write_atomically
from imunity_bids.image.white_stripe import WHITE_MATTER
from imunity_bids.models.quantiles import STEPS
from imunity_bids.simulation.fields import smooth_field
from imunity_bids.simulation.persons import Person
from imunity_bids.simulation.protocols import Protocols, draw_protocols, tissue_levels
from imunity_bids.simulation.visits import SCATTER

STRIDE = 2  # every so many voxels of 1 mm
SHAPE = (80, 96, 96)  # of the volumes; a brain in template space has about 156 × 188 × 162 mm
RESOLUTIONS = 4  # of each person; the first is the brain's own
GROUP = 5  # persons who are scanned on each scanner
FLIPS = torch.linspace(0.5, 1.5, 41)  # relative flip angles at which signals are tabulated
TRANSMIT = 0.25  # largest excess of the flip angle in the middle of the head
BLUR = 0.6  # largest σ beyond 1 mm, in voxels
NOISE = (0.004, 0.03)  # standard deviation in each channel, white matter being at 0.7; log-uniform
SPARSE = 4  # every so many voxels are enough for quantiles
TISSUE_SPREAD = 0.05  # log-normal, of the share that a tissue has in a brain's quantiles
RESIDUAL = 0.10  # largest amplitude of what the correction leaves of a receive field; small ones are more frequent
WHITE_MISS = 0.01  # standard deviation of the level at which white stripe puts white matter, relative
DRAWN_LEVELS = 0.15  # share of the scanners whose tissue levels are drawn, not computed: no sequence is left out
CSF_LEVELS, GRAY_LEVELS = (0.05, 0.75), (0.45, 0.95)  # of those, relative to gray and white matter
RIM_SHARE, RIM_LEVEL = 0.8, (0.0, 0.5)  # most of what is not brain in the outermost voxels of a mask, and its level
RIM_DEPTH = 0.7  # voxels in which this falls to 1/e
DEEP = 5  # voxels below the mask's surface CSF lies in ventricles
DARKEST = 0.004  # inside the brain
CSF, MIXED = 0, 3  # numbers of tissues
PURE = 0.9  # a tissue's share in voxels that hold no other


@dataclass(frozen=True)
class Coarse:
    """A person at every second voxel."""

    scan: np.ndarray  # the person's own white-striped image, (n,) float16
    parts: np.ndarray  # (R, 3, n) float16: the image is their sum, each times the level of its tissue
    where: np.ndarray  # voxels in a volume of `SHAPE`, (n, 3) int16
    position: np.ndarray  # (n, 3), from -1 to 1 along each side of the brain's box
    tissue: np.ndarray  # the largest fraction's number, (n,)
    pure: np.ndarray  # number of the tissue that it lies well inside of, or `MIXED`, (n,) uint8
    white: np.ndarray  # white matter alone, whose median is at 0.7 as in `visits.perfect`, (n,) bool

    @cached_property
    def depth(self) -> np.ndarray:
        """Voxels of this grid to the next outside the mask, 1 in the outermost, (n,) float32."""
        mask = np.zeros([size + 2 for size in SHAPE], bool)
        at = tuple(self.where.T.astype(int) + 1)
        mask[at] = True
        return ndimage.distance_transform_edt(mask)[at].astype(np.float32)

    def image(self, levels: np.ndarray, resolution: int, rim: np.ndarray, voxels: np.ndarray | slice) -> np.ndarray:
        """Some voxels (m,) without noise, tissues being at `levels`, (3) or (3, m); `rim` as in `Visits`, (2,)."""
        parts = self.parts[resolution][:, voxels].astype(np.float32)
        image = np.einsum("tn,tn->n" if levels.ndim > 1 else "t,tn->n", levels, parts).clip(min=0)
        other = rim[0] * np.exp((1 - self.depth[voxels]) / RIM_DEPTH)
        return (1 - other) * image + other * rim[1]


class Visits(NamedTuple):
    """N visits of groups of persons: each `group` of them in turn are different persons on one scanner."""

    values: np.ndarray  # float16, one visit after the other: the scan at the voxels of its person, as the app makes it
    start: np.ndarray  # of each visit in `values`, and the end, (N + 1,)
    group: int
    quantiles: Tensor  # of the scan, (N, Q)
    person: Tensor  # number, (N,)
    resolution: Tensor  # number, (N,)
    protocol: Protocols  # N of them
    drawn: Tensor  # levels of CSF and gray matter where they are drawn, else NaN, (N, 2)
    t1: Tensor  # the person's, relative to the usual, (N, 3)
    rim: np.ndarray  # what the outermost voxels of the mask hold beside brain, share and level, (N, 2) float32

    def scan(self, number: int) -> np.ndarray:
        """Intensities (n,) float16 of one visit."""
        return self.values[self.start[number] : self.start[number + 1]]


def coarse(person: Person, image: np.ndarray, rng: np.random.Generator) -> Coarse:
    """Every second voxel of a person at 1 mm, at several resolutions.

    Parameters
    ----------
    image
        That the person was made from, (X, Y, Z).

    Raises
    ------
    ValueError
        The brain is larger than `SHAPE` holds.
    """
    box = ndimage.find_objects(person.mask.astype(np.uint8))[0]
    take = tuple(slice(side.start, side.stop, STRIDE) for side in box)
    mask = person.mask[take]
    if any(size > most for size, most in zip(mask.shape, SHAPE, strict=True)):
        raise ValueError(f"{person.name}: a brain of {mask.shape} voxels does not fit into {SHAPE}")
    where = np.argwhere(mask)
    low, high = where.min(axis=0), where.max(axis=0)
    offset = [(most - size) // 2 for size, most in zip(mask.shape, SHAPE, strict=True)]
    own = person.parts
    weight_of = person.mask.astype(np.float32)
    parts = []
    for number in range(RESOLUTIONS):
        sigma = rng.uniform(0, BLUR, 3) * rng.integers(0, 2, 3) * bool(number)
        weight = np.maximum(ndimage.gaussian_filter(weight_of, sigma), 1e-3)[take][mask]
        parts.append(np.stack([ndimage.gaussian_filter(part, sigma)[take][mask] / weight for part in own]))
    fractions = person.fractions[(slice(None), *take)][:, mask]
    return Coarse(
        scan=image[take][mask].astype(np.float16),
        parts=np.stack(parts).astype(np.float16),
        where=(where + offset).astype(np.int16),
        position=((where - (low + high) / 2) / ((high - low) / 2)).astype(np.float32),
        tissue=fractions.argmax(axis=0).astype(np.uint8),
        pure=_pure(person.fractions)[take][mask],
        white=person.white[take][mask],
    )


def _pure(fractions: np.ndarray) -> np.ndarray:
    """Tissue numbers (X, Y, Z) uint8 where a voxel and its neighbours hold one tissue only, else `MIXED`."""
    pure = np.full(fractions.shape[1:], MIXED, np.uint8)
    for number, share in enumerate(fractions):
        pure[ndimage.binary_erosion(share > PURE)] = number
    return pure


def simulate_visits(people: list[Coarse], count: int, folder: Path, seed: int, jobs: int = 1) -> Visits:
    """About `count` visits to scanners, `GROUP` different persons to each, or all (one person, alone, goes twice).

    Scans, half a megabyte each, are kept in `folder`; what is there is read.
    """
    rng, g = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    group = max(min(GROUP, len(people)), 2)
    scanners = max(count // group, 1)
    count = scanners * group
    protocol = draw_protocols(scanners, g).rows(torch.arange(scanners).repeat_interleave(group))
    chosen = np.concatenate([rng.choice(len(people), group, replace=len(people) == 1) for _ in range(scanners)])
    t1 = torch.from_numpy(1 + SCATTER * rng.standard_normal((count, 3))).float()
    drawn = _drawn_levels(scanners, rng).repeat_interleave(group, dim=0)
    share, level = rng.uniform(0, RIM_SHARE, scanners), rng.uniform(*RIM_LEVEL, scanners)
    rim = np.stack([share, level], axis=1).astype(np.float32).repeat(group, axis=0)
    resolution = torch.from_numpy(rng.integers(0, RESOLUTIONS, scanners)).repeat_interleave(group)
    start = np.concatenate([[0], np.cumsum([len(people[number].where) for number in chosen])])
    scans, quantiles = folder / "scans.npy", folder / "quantiles.npy"
    if not quantiles.exists():
        folder.mkdir(parents=True, exist_ok=True)
        values = np.lib.format.open_memmap(scans, "w+", np.float16, (int(start[-1]),))
        tables = _with_drawn(tissue_levels(protocol, t1, FLIPS), drawn, t1).numpy()

        def one(number: int) -> np.ndarray:
            own = np.random.default_rng([seed, number])
            person = people[chosen[number]]
            scan = _scan(person, int(resolution[number]), rim[number], tables[number], own)
            values[start[number] : start[number + 1]] = scan
            return _quantiles(scan, person.tissue, own)

        rows = Parallel(n_jobs=jobs, prefer="threads")(delayed(one)(number) for number in tqdm(range(count), "visits"))
        values.flush()
        write_atomically(quantiles, lambda path: np.save(path, np.stack(rows)))
    return Visits(
        values=np.load(scans, mmap_mode="r"),
        start=start,
        group=group,
        quantiles=torch.from_numpy(np.load(quantiles)),
        person=torch.from_numpy(chosen),
        resolution=resolution,
        protocol=protocol,
        drawn=drawn,
        t1=t1,
        rim=rim,
    )


def target_levels(visits: Visits, source: Tensor, target: Tensor) -> Tensor:
    """Tissue levels of the persons of visits `source` on the scanners of visits `target`: numbers (B) -> (B, 3).

    White matter is at 0.7 exactly: the truth has the level of the population, not that of a visit.
    """
    t1 = visits.t1[source]
    levels = tissue_levels(visits.protocol.rows(target), t1, torch.ones(1))
    return _with_drawn(levels, visits.drawn[target], t1)[..., 0]


def _drawn_levels(count: int, rng: np.random.Generator) -> Tensor:
    gray = rng.uniform(*GRAY_LEVELS, count) * WHITE_MATTER
    csf = rng.uniform(*CSF_LEVELS, count) * gray
    levels = np.stack([csf, gray], axis=1)
    levels[rng.random(count) >= DRAWN_LEVELS] = np.nan
    return torch.from_numpy(levels).float()


def _with_drawn(levels: Tensor, drawn: Tensor, t1: Tensor) -> Tensor:
    """Levels (B, 3, F) with those of CSF and gray matter replaced where some are drawn, (B, 2).

    The person's T1 changes them about as it does those of the sequences: by a third of its own deviation.
    """
    own = drawn * (1 - (t1[:, :2] - t1[:, 2:]) / 3)
    computed, own = levels[:, :2], own[..., None].expand_as(levels[:, :2])
    return torch.cat([torch.where(own.isnan(), computed, own), levels[:, 2:]], dim=1)


def _scan(person: Coarse, resolution: int, rim: np.ndarray, table: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Intensities (n,) of one visit after bias correction and white stripe; `table` holds levels (3, F) at `FLIPS`."""
    excess = rng.uniform(0, TRANSMIT)
    weights = rng.uniform(0.5, 1.5, 3)
    middle, weights = rng.normal(0, 0.1, 3).astype(np.float32), (weights / weights.mean()).astype(np.float32)
    distance = (person.position - middle) ** 2 @ weights
    flip = 1 + excess * (1 - np.minimum(distance, 2)) + 0.2 * excess * smooth_field(person.position, rng)
    flip /= flip.mean()
    levels = np.stack([np.interp(flip, FLIPS.numpy(), row) for row in table]).astype(np.float32)
    image = person.image(levels, resolution, rim, slice(None))
    image *= 1 + RESIDUAL * rng.uniform() ** 2 * smooth_field(person.position, rng)
    sigma = np.exp(rng.uniform(*np.log(NOISE)))
    noise = np.float32(sigma) * rng.standard_normal((2, len(image)), dtype=np.float32)
    noisy = np.sqrt((image + noise[0]) ** 2 + noise[1] ** 2)  # Rician
    scale = WHITE_MATTER * (1 + WHITE_MISS * rng.standard_normal()) / np.median(noisy[person.white])
    return np.clip(noisy * scale, DARKEST, 1).astype(np.float32)


def _quantiles(scan: np.ndarray, tissue: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(Q,) of a brain whose shares of tissues differ a little from the person's."""
    scan, tissue = scan[::SPARSE], tissue[::SPARSE]
    weight = np.exp(TISSUE_SPREAD * rng.standard_normal(3))[tissue]
    order = np.argsort(scan)
    rank = np.cumsum(weight[order])
    at = (rank - weight[order] / 2) / rank[-1]
    return np.interp(np.linspace(0, 1, STEPS), at, scan[order]).astype(np.float32)
