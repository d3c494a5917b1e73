"""BIDS datasets of simulated heads on the protocols of `simulation/scanners.py`: travelers, or sites apart.

python benchmarks/simulated_heads.py OUT --persons 4 --scanners SPGR-3T MPRAGE-1.5T MPRAGE-3T --visits 2
python benchmarks/simulated_heads.py OUT --persons 5 --apart

Travelers are laid out as ON-Harmony (ds004712): a session is a scanner and the number of a visit (`ses-SPGR3T001`); on
the last scanner everybody is `--visits` times. With `--apart` every scanner has other persons, and participants.tsv
tells site, age and sex. Gray matter gives way to CSF with age, sex changes nothing. The brain has the protocol's
contrast, what is outside is invented; heads lie differently at every visit. About 12 seconds of a core per head.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.spatial.transform import Rotation

from imunity_bids.bids.outputs import write_text
from imunity_bids.simulation import scanners as protocols
from imunity_bids.simulation.demo import TISSUES, Scanner, Visit, write_heads

AGES = (20.0, 80.0)
THINNING = 0.2  # share of gray matter that the oldest have lost
TURN_DEGREES, SHIFT_MM = 3.0, 4.0  # standard deviations of how a head lies
KNOWN = {scanner.name: scanner for scanner in protocols.SCANNERS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--persons", type=int, default=4, help="travelers, or persons of each scanner")
    parser.add_argument("--scanners", nargs="+", choices=list(KNOWN), default=list(KNOWN), metavar="NAME")
    parser.add_argument("--visits", type=int, default=1, help="of a traveler to the last scanner")
    parser.add_argument("--apart", action="store_true", help="nobody travels")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    scanners = [machine(KNOWN[name]) for name in options.scanners]
    visits = (
        sites_apart(scanners, options.persons) if options.apart else tour(scanners, options.persons, options.visits)
    )
    people = people_of(visits, options.seed)
    ages = dict(zip(people.participant_id, people.age, strict=True))
    write_heads(
        options.output, "Simulated heads", visits, options.seed, lambda who, head: aged(head, ages[f"sub-{who}"]), lying
    )
    people = people if options.apart else people.drop(columns="site")
    write_text(options.output / "participants.tsv", people.to_csv(sep="\t", index=False))


def machine(scanner: protocols.Scanner) -> Scanner:
    """A scanner of the demo with a protocol's contrast, receive field and noise."""
    csf, gray, white = scanner.signal(np.ones((1, 1, 1)), np.ones(3)).ravel()
    signal = (gray / white, 1.0, csf / white, 0.05, 1.1, 0.45, csf / white)
    return Scanner(scanner.name, signal, scanner.receive, (1.0, 1.0, 1.0), scanner.noise / 0.7, 500.0)


def tour(scanners: list[Scanner], persons: int, visits: int) -> list[Visit]:
    """Everybody once on each scanner, `visits` times on the last one."""
    times = [1] * (len(scanners) - 1) + [visits]
    return [
        Visit(f"{person:02d}", f"{label(scanner)}{visit:03d}", scanner)
        for person in range(1, persons + 1)
        for scanner, count in zip(scanners, times, strict=True)
        for visit in range(1, count + 1)
    ]


def sites_apart(scanners: list[Scanner], persons: int) -> list[Visit]:
    """So many persons on each scanner, once."""
    return [
        Visit(f"{number * persons + person:02d}", label(scanner), scanner)
        for number, scanner in enumerate(scanners)
        for person in range(1, persons + 1)
    ]


def people_of(visits: list[Visit], seed: int) -> pd.DataFrame:
    """participants.tsv, a row per person."""
    sites = {visit.subject: label(visit.scanner) for visit in visits}
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "participant_id": [f"sub-{subject}" for subject in sites],
            "age": rng.uniform(*AGES, len(sites)).round(1),
            "sex": rng.choice(["F", "M"], len(sites)),
            "site": list(sites.values()),
        }
    )


def aged(head: np.ndarray, age: float) -> np.ndarray:
    """Tissue fractions of a head whose gray matter has partly become CSF."""
    gray, csf = TISSUES.index("gray"), TISSUES.index("csf")
    lost = THINNING * (age - AGES[0]) / (AGES[1] - AGES[0]) * head[gray]
    head[gray] -= lost
    head[csf] += lost
    return head


def lying(rng: np.random.Generator) -> np.ndarray:
    """Rotation and shift, (4, 4)."""
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_euler("xyz", TURN_DEGREES * rng.standard_normal(3), degrees=True).as_matrix()
    motion[:3, 3] = SHIFT_MM * rng.standard_normal(3)
    return motion


def label(scanner: Scanner) -> str:
    """Letters and digits only, as BIDS has them."""
    return "".join(character for character in scanner.name if character.isalnum())


if __name__ == "__main__":
    main()
