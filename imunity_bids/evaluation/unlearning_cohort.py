"""The simulated cohort of the experiments: made once, kept on disk, and scanned wherever they are sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from imunity_bids.simulation.cohort import Member, Traits, make_cohort, make_sites, scan
from imunity_bids.simulation.fields import receive_field
from imunity_bids.simulation.scanners import Scanner
from imunity_bids.unlearning.scans import standardised

COIL = 1.0  # amplitude of a site's own receive field


def load_or_make(
    folder: Path, maps: Path, count: int, spacing_mm: float, seed: int, jobs: int, vary: bool = False
) -> list[Member]:
    """So many persons; those that an earlier run of the same size left in the folder, if it did."""
    file = folder / f"cohort_{count}_{spacing_mm:g}mm_{seed}{'_varied' * vary}.pt"
    if file.exists():
        state = torch.load(file, weights_only=True)
        rows = zip(state["names"], state["maps"], state["traits"], state["fractions"], strict=True)
        return [Member(name, label_map, Traits(**traits), fractions) for name, label_map, traits, fractions in rows]
    members = make_cohort(maps, count, spacing_mm, seed, jobs, vary)
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        "names": [m.name for m in members],
        "maps": [m.label_map for m in members],
        "traits": [vars(m.traits) for m in members],
        "fractions": torch.stack([m.fractions for m in members]),
    }
    temporary = file.with_suffix(".tmp")
    torch.save(state, temporary)
    temporary.replace(file)
    return members


class Clinic:
    """Scans of members on the scanners of all sites, each made when it is first asked for.

    Besides its protocol, each site has a coil whose field stays in its images, as in scans that nobody has corrected.
    """

    def __init__(self, sites: int, spacing_mm: float, seed: int = 1):
        self.scanners: list[Scanner] = make_sites(sites, seed)
        self.spacing_mm, self.seed = spacing_mm, seed
        self._made: dict[tuple[str, int], Tensor] = {}

    def __call__(self, member: Member, site: int) -> Tensor:
        """(X, Y, Z) float16 of mean 0 and deviation 1."""
        key = member.name, site
        if key not in self._made:
            image = scan(member, self.scanners[site], self.spacing_mm, self.seed).float()
            self._made[key] = standardised(image * self._coil(site, tuple(image.shape))).half()
        return self._made[key]

    def _coil(self, site: int, shape: tuple[int, ...]) -> Tensor:
        rng = np.random.default_rng([self.seed, *self.scanners[site].name.encode()])
        return torch.from_numpy(receive_field(shape, COIL, rng))


@dataclass(frozen=True)
class Visit:
    """Who lies in which scanner."""

    member: Member
    site: int


def everywhere(members: Sequence[Member], sites: Sequence[int]) -> list[Visit]:
    """All members on all of the sites: what is judged by, so that who is where tells nothing."""
    return [Visit(member, site) for site in sites for member in members]


def somewhere(members: Sequence[Member], sites: Sequence[int], rng: np.random.Generator) -> list[Visit]:
    """Each member on one site by chance, the sites getting about as many."""
    turns = rng.permutation(len(members)) % len(sites)
    return [Visit(member, sites[turn]) for member, turn in zip(members, turns, strict=True)]


def by_age(
    members: Sequence[Member], sites: tuple[int, int], overlap: float, middle: float, rng: np.random.Generator
) -> list[Visit]:
    """The younger on the first site and the older on the second; in `overlap` years around the middle on either."""
    visits = []
    for member in members:
        distance = member.traits.age - middle
        older = distance > 0 if abs(distance) > overlap / 2 else rng.random() < 0.5
        visits.append(Visit(member, sites[int(older)]))
    return visits


def sex_by_site(
    members: Sequence[Member], sites: tuple[int, int], share: float, rng: np.random.Generator
) -> list[Visit]:
    """So large a share of the first site are men, of the second women."""
    first = [(m.traits.sex == "M") == (rng.random() < share) for m in members]
    return [Visit(member, sites[0 if here else 1]) for member, here in zip(members, first, strict=True)]


def sex_by_age(members: Sequence[Member], share: float, middle: float, rng: np.random.Generator) -> list[Member]:
    """Members of whom so large a share are women below the middle age, and men above; the others are left out."""
    rare = (1 - share) / share
    common = [(m.traits.sex == "F") == (m.traits.age < middle) for m in members]
    return [m for m, usual in zip(members, common, strict=True) if usual or rng.random() < rare]
