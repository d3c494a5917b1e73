"""Does unlearning work in the harmonizer's training? Sites and a trait are planted, and fresh probes look for both.

python benchmarks/planted_sites.py LABEL_MAPS WORK [--seeds 3] [--steps 3000] [--jobs 1]

Persons are simulated from label maps (`simulation/cohort.py`), each on one of the scanners by chance. The trait is
their age, old or young, which shows in ventricles and sulci. The paper's generator is trained on them with each of its
parts (site head, biological head, adversary) on or off. Then the anatomy codes of persons of other label maps, on all
scanners, are probed by classifiers that are trained anew (`unlearning/probe.py`): they should tell the site no more,
the trait as before. Persons of further maps choose the weights. Not timed; the table stands in docs/train.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed

from imunity_bids.evaluation.unlearning_cohort import Visit, everywhere, load_or_make, somewhere
from imunity_bids.harmonize.slices import pad_to_multiple, to_slices
from imunity_bids.models.paper import PaperArchitecture, PaperGenerator
from imunity_bids.simulation.cohort import AGES, Member, make_sites, scan, split_by_map
from imunity_bids.training.biology import read_feature
from imunity_bids.training.checkpoints import Run, weights_to_start_with
from imunity_bids.training.dataset import Brain
from imunity_bids.training.losses import PRESETS
from imunity_bids.training.paper import PaperTraining, train_paper
from imunity_bids.unlearning.probe import probe

SPACING_MM = 3.0
PERSONS = 240
MAPS_JUDGED, MAPS_HELD_OUT = 6, 2
SITES = 3
ARCHITECTURE = PaperArchitecture(width=8)
CROP = 64  # pixels: most of a slice
SLICES = 9  # of a brain, whose codes are averaged
TRAIT = "old"


class Variant(NamedTuple):
    """What is on in a training."""

    name: str
    unlearn: bool
    biology: bool
    adversary: bool = False  # it takes most of the time and has no part in what is asked here


VARIANTS = (
    Variant("neither", unlearn=False, biology=False),
    Variant("biological head", unlearn=False, biology=True),
    Variant("site unlearned", unlearn=True, biology=False),
    Variant("both", unlearn=True, biology=True),
    Variant("both, and adversary", unlearn=True, biology=True, adversary=True),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("maps", type=Path)
    parser.add_argument("work", type=Path, help="persons and trainings; what is there is not made again")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--confusion", type=float, default=PRESETS["paper"].confusion, help="weight of the confusion")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    members = load_or_make(options.work, options.maps, PERSONS, SPACING_MM, seed=7, jobs=options.jobs)
    others, judged = split_by_map(members, MAPS_JUDGED)
    known, held_out = split_by_map(others, MAPS_HELD_OUT)
    rng = np.random.default_rng(7)
    parts = [to_brains(visits) for visits in (
        somewhere(known, range(SITES), rng), somewhere(held_out, range(SITES), rng), everywhere(judged, range(SITES)),
    )]  # fmt: skip
    runs = [(variant, seed) for seed in range(1, options.seeds + 1) for variant in VARIANTS]
    rows = Parallel(n_jobs=options.jobs)(delayed(one_run)(options, *run, *parts) for run in runs)
    table = pd.DataFrame(rows).groupby("variant", sort=False).agg(["mean", "min", "max"]).drop(columns="seed", level=0)
    print(f"chance: site {1 / SITES:.3f}, {TRAIT} 0.5; brains: {[len(part) for part in parts]}")
    print(table.round(3).to_string())


def one_run(
    options: argparse.Namespace,
    variant: Variant,
    seed: int,
    brains: list[Brain],
    held_out: list[Brain],
    judged: list[Brain],
) -> dict[str, float | str]:
    """Train one variant and probe its anatomy codes."""
    torch.set_num_threads(1)
    weights = replace(PRESETS["paper"], confusion=options.confusion, adversarial=float(variant.adversary))
    name = "-".join([variant.name.replace(", ", "-").replace(" ", "-"), str(seed), f"{options.confusion:g}"])
    setup = PaperTraining(
        options.work / f"{name}-{options.steps}", "axial", variant.unlearn, steps=options.steps, every=500, seed=seed,
        architecture=ARCHITECTURE, weights=weights, crop=CROP,
    )  # fmt: skip
    features = (read_feature(TRAIT, brains),) if variant.biology else ()
    best = train_paper(setup, brains, SITES, held_out, features)
    run = Run(setup.output)
    run.load()
    generator = PaperGenerator(ARCHITECTURE)
    generator.load_state_dict(weights_to_start_with(best))
    codes = np.stack([brain_code(generator.eval(), brain) for brain in judged])
    persons = np.array([brain.name for brain in judged])
    labels = {"site": [brain.site for brain in judged], TRAIT: [brain.traits[TRAIT] for brain in judged]}
    told = {label: probe(codes, np.array(values), persons) for label, values in labels.items()}
    return {
        "variant": variant.name,
        "seed": seed,
        "L1 of persons held out": min(
            row["held_out"] for row in torch.load(setup.output / "last.pt", weights_only=True)["rows"]
        ),
        **{label: one.accuracy for label, one in told.items()},
        "shuffled site": told["site"].shuffled,
    }


@torch.inference_mode()
def brain_code(generator: PaperGenerator, brain: Brain) -> np.ndarray:
    """Mean anatomy code of the slices in the middle, (C h w)."""
    stack = to_slices(brain.volume.numpy(), "axial")
    middle = len(stack) // 2
    slices = pad_to_multiple(stack[middle - SLICES // 2 : middle + SLICES // 2 + 1], ARCHITECTURE.multiple)
    code = generator.anatomy(slices).mean
    return code.mean(dim=0).flatten().numpy()


def to_brains(visits: Sequence[Visit]) -> list[Brain]:
    """What training reads: the scans, by person."""
    scanners = make_sites(SITES)
    return [Brain(v.member.name, v.site, scan(v.member, scanners[v.site], SPACING_MM), trait(v.member)) for v in visits]


def trait(member: Member) -> dict[str, str]:
    """Older than the middle of all ages, or not."""
    return {TRAIT: str(int(member.traits.age > sum(AGES) / 2))}


if __name__ == "__main__":
    main()
