"""Persons with a known truth: label maps deformed by known fields, so that age and sex can be read from the anatomy.

- Age widens the ventricles: their surface moves outwards by up to `WIDENING_MM`, the tissue around gives way.
  Before, those of every label map are brought to the size of a young adult's.
- Age thins the cortex and opens the sulci: its outer surface moves inwards by up to
  `THINNING_MM`, the inner one by less.
- Age turns white matter around the ventricles gray (caps, as T1w scans of the old show them), in `varied` persons.
- Sex changes the size of the head, and its breadth relative to its length.
- Everybody scatters around what age and sex make of them, and has a smooth deformation and T1 of his own.

Persons of one label map resemble each other: whoever judges keeps the maps apart, too (`split_by_map`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from joblib import Parallel, delayed
from torch import Tensor

from imunity_bids.errors import InputMissing
from imunity_bids.image.white_stripe import WHITE_MATTER
from imunity_bids.simulation.cohort_anatomy import Anatomy, read_anatomy, tissue_fractions
from imunity_bids.simulation.persons import Person
from imunity_bids.simulation.scanners import SCANNERS, Scanner
from imunity_bids.simulation.visits import Visit, traveler

AGES = (20.0, 80.0)
WIDENING_MM, WIDENING_SCATTER_MM = 6.0, 0.5  # of the ventricles from the youngest to the oldest; between persons
THINNING_MM, THINNING_SCATTER_MM = 1.5, 0.12
CAPS_MM, CAPS_SCATTER_MM = 10.0, 0.7  # from the ventricles
SIZE, BREADTH, SCATTER = 0.06, 0.04, 0.015  # relative, of length; M − F, and standard deviation between persons
WARP_MM, VARIED_WARP_MM = 2.0, 3.0  # standard deviation of the nodes of everybody's own deformation
LEFT_AFTER_N4 = 0.2  # share of the receive field
PROTOCOL = 0.08  # relative scatter of times and angles between sites with the same protocol


@dataclass(frozen=True)
class Traits:
    """What decides a person's anatomy."""

    age: float  # years
    sex: str  # F or M
    widening_mm: float
    thinning_mm: float
    size: float  # relative
    breadth: float  # relative
    seed: int  # of the deformation of his own
    caps_mm: float = 0.0
    warp_mm: float = WARP_MM
    mirrored: bool = False


@dataclass(frozen=True)
class Member:
    """One person of a cohort: fractions of CSF, gray and white matter, (3, X, Y, Z) uint8, 255 being all."""

    name: str
    label_map: str
    traits: Traits
    fractions: Tensor

    def tissues(self) -> Tensor:
        """The truth of a segmentation: 0 background, 1 CSF, 2 gray, 3 white matter, (X, Y, Z)."""
        return torch.where(self.fractions.sum(dim=0) > 127, self.fractions.argmax(dim=0) + 1, 0)


def draw_traits(rng: np.random.Generator, age: float | None = None, sex: str | None = None) -> Traits:
    """A person's traits; age is uniform over `AGES` and sex even, unless given."""
    age = float(rng.uniform(*AGES)) if age is None else age
    sex = str(rng.choice(["F", "M"])) if sex is None else sex
    old = (age - AGES[0]) / (AGES[1] - AGES[0])
    male = 0.5 if sex == "M" else -0.5
    return Traits(
        age=age,
        sex=sex,
        widening_mm=float(WIDENING_MM * old + WIDENING_SCATTER_MM * rng.standard_normal()),
        thinning_mm=float(THINNING_MM * old + THINNING_SCATTER_MM * rng.standard_normal()),
        size=float(1 + SIZE * male + SCATTER * rng.standard_normal()),
        breadth=float(1 + BREADTH * male + SCATTER * rng.standard_normal()),
        seed=int(rng.integers(2**31)),
    )


def varied(traits: Traits) -> Traits:
    """The same person with the caps of his age, further from the label map: more deformed, left and right by chance."""
    rng = np.random.default_rng(traits.seed)
    old = (traits.age - AGES[0]) / (AGES[1] - AGES[0])
    caps = max(0.0, float(CAPS_MM * old + CAPS_SCATTER_MM * rng.standard_normal()))
    return replace(traits, caps_mm=caps, warp_mm=VARIED_WARP_MM, mirrored=bool(rng.random() < 0.5))


def make_cohort(
    maps: Path, count: int, spacing_mm: float, seed: int = 1, jobs: int = 1, vary: bool = False
) -> list[Member]:
    """So many persons, in turn from each label map, each `varied` if that is asked for; the same seed gives the same
    ones. Raises as `members_of` does."""
    rng = np.random.default_rng([seed, 1])
    drawn = [draw_traits(rng) for _ in range(count)]
    return members_of(maps, [varied(traits) for traits in drawn] if vary else drawn, spacing_mm, jobs)


def members_of(maps: Path, traits: Sequence[Traits], spacing_mm: float, jobs: int = 1) -> list[Member]:
    """Persons with these traits, in this order, in turn from each label map.

    Raises
    ------
    InputMissing
        The folder holds no label map.
    """
    paths = label_maps(maps)
    shares = [traits[number :: len(paths)] for number in range(len(paths))]
    families = Parallel(n_jobs=jobs)(
        delayed(_family)(path, share, spacing_mm) for path, share in zip(paths, shares, strict=True) if share
    )
    return [member for generation in _in_turn(families) for member in generation]


def label_maps(folder: Path) -> list[Path]:
    """Label maps in the order in which they are taken. Raises InputMissing where there is none."""
    paths = sorted(Path(folder).glob("*.nii*"))
    if not paths:
        raise InputMissing(f"{folder} holds no label maps (NIfTI, SynthSeg's numbers)")
    return paths


def family_of(path: Path, traits: Sequence[Traits], spacing_mm: float) -> Iterator[Member]:
    """Persons of one label map, each made when it is asked for: one has 15 MB at 1 mm."""
    anatomy = read_anatomy(path)
    stem = path.name.split(".")[0]
    for number, one in enumerate(traits):
        yield Member(f"{stem}-{number:03d}", stem, one, _fractions(anatomy, one, spacing_mm))


def split_by_map(
    members: Sequence[Member], held_out: int, rng: np.random.Generator | None = None
) -> tuple[list[Member], list[Member]]:
    """Persons to learn from and, all of `held_out` label maps, others to judge by: the last by name, or by chance."""
    names = sorted({member.label_map for member in members})
    names = names if rng is None else list(rng.permutation(names))
    kept_apart = set(names[len(names) - held_out :])
    parts = [[m for m in members if (m.label_map in kept_apart) == judged] for judged in (False, True)]
    return parts[0], parts[1]


def make_sites(count: int, seed: int = 1) -> list[Scanner]:
    """Scanners of so many sites: the protocols of `SCANNERS`, and when those end, variants as other sites run them."""
    rng = np.random.default_rng([seed, 2])
    return [SCANNERS[n] if n < len(SCANNERS) else _variant(n, rng) for n in range(count)]


def scan(member: Member, scanner: Scanner, spacing_mm: float, seed: int = 1) -> Tensor:
    """The member's brain as this scanner sees it, (X, Y, Z) float16: white matter's median at 0.7, 0 outside."""
    return torch.from_numpy(visit(member, scanner, spacing_mm, seed).scan).half()


def visit(member: Member, scanner: Scanner, spacing_mm: float, seed: int = 1) -> Visit:
    """The same before rounding, and its truth.

    Instead of N4, which takes seconds, a fifth of the receive field is left.
    """
    fractions = member.fractions.float().numpy() / 255
    mask = fractions.sum(axis=0) > 0.5
    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1])
    someone = Person(member.name, affine, fractions, np.zeros(mask.shape, np.float32), mask)
    image, truth = traveler(someone, replace(scanner, receive=LEFT_AFTER_N4 * scanner.receive), seed)
    white = fractions[2] > 0.9 * min(1.0, fractions[2].max())  # large voxels may hold none that is pure
    return Visit(image * (WHITE_MATTER / np.median(image[white])), truth)


def _family(path: Path, traits: Sequence[Traits], spacing_mm: float) -> list[Member]:
    torch.set_num_threads(1)  # of this process; others make other families
    return list(family_of(path, traits, spacing_mm))


def _fractions(anatomy: Anatomy, traits: Traits, spacing_mm: float) -> Tensor:
    g = torch.Generator().manual_seed(traits.seed)
    nodes = traits.warp_mm * torch.randn(3, 5, 5, 5, generator=g)
    side = -1 if traits.mirrored else 1
    scale = (side * traits.size * traits.breadth, traits.size, traits.size)
    widening = traits.widening_mm - anatomy.excess_mm
    found = tissue_fractions(anatomy, spacing_mm, scale, nodes, widening, traits.thinning_mm, traits.caps_mm)
    return (255 * found).round().to(torch.uint8)


def _variant(number: int, rng: np.random.Generator) -> Scanner:
    base = SCANNERS[number % len(SCANNERS)]
    te, flip, receive, noise = (
        value * np.exp(PROTOCOL * rng.standard_normal()) for value in (base.te, base.flip, base.receive, base.noise)
    )
    timing = {"tr": base.tr * np.exp(PROTOCOL * rng.standard_normal())}
    if base.ti is not None:  # a shorter train leaves room before and after it
        timing = {"tr": base.tr, "spacing": base.spacing * rng.uniform(1 - 2 * PROTOCOL, 1)}
    return replace(base, name=f"{base.name}-{number}", te=te, flip=flip, receive=receive, noise=noise, **timing)


def _in_turn(families: Sequence[Sequence[Member]]) -> list[list[Member]]:
    longest = max(len(family) for family in families)
    return [[family[place] for family in families if place < len(family)] for place in range(longest)]
