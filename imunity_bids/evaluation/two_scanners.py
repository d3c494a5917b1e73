"""Two simulated scanners and the methods that need to learn them: persons to learn from, others who were on both.

Half of the persons to learn from were on one scanner, half on the other. Those who are judged, of other label maps,
were on both: their scans of the first are brought to the second, where the truth is known.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import ndimage, stats
from torch import Tensor

from imunity_bids.bids.outputs import plain, write_json, write_text
from imunity_bids.evaluation.cyclegan import AXIS, MULTIPLE, CycleGan, train_cyclegan, translate
from imunity_bids.evaluation.travelers import OURS, TRUTH, baseline_images, scores_of
from imunity_bids.harmonize.inference import Compute, harmonize
from imunity_bids.harmonize.references import reference_of
from imunity_bids.harmonize.slices import pad_to_multiple, to_slices
from imunity_bids.metrics.textures import intensity_and_texture
from imunity_bids.models.bundle import load_bundle
from imunity_bids.simulation.cohort import Member, make_cohort, split_by_map, visit
from imunity_bids.simulation.scanners import Scanner
from imunity_bids.unlearning.probe import probe

RAW, BLUR, CYCLEGAN = "raw", "blurred (control)", "CycleGAN, seed {}"
BLUR_MM = 2.0  # σ
MIDDLE = (0.25, 0.75)  # of the height: slices that CycleGAN learns from
SCORES = ("ssim", "psnr", "mae")


@dataclass(frozen=True)
class Contest:
    """Who is judged, and how much is learned.

    Attributes
    ----------
    scanners
        From the first to the second.
    persons, held_out
        All of them, and label maps whose persons are judged.
    seeds
        Of CycleGAN: as many are trained, since seeds differ.
    """

    scanners: tuple[Scanner, Scanner]
    persons: int = 48
    held_out: int = 6
    spacing_mm: float = 1.0
    steps: int = 1000
    seeds: int = 2
    seed: int = 1


def evaluate_two_scanners(maps: Path, model: Path, output: Path, contest: Contest) -> pd.DataFrame:
    """Writes `images.tsv`, a line per person and method, and `two_scanners.{tsv,json}`; returns the latter's rows.

    Parameters
    ----------
    maps
        Folder of whole-head label maps of 1 mm.
    model
        Bundle; ours is harmonized to those who were to be learned from on the second scanner, as the baselines are.
    output
        Also keeps the trainings, which go on where they were.
    """
    torch.set_num_threads(1)
    members = make_cohort(maps, contest.persons, contest.spacing_mm, contest.seed)
    known, judged = split_by_map(members, contest.held_out)
    shown = [[_scan(m, scanner, contest) for m in known[n::2]] for n, scanner in enumerate(contest.scanners)]
    translators, seconds = {}, {}
    for seed in range(contest.seeds):
        name, began = CYCLEGAN.format(seed), time.monotonic()
        setup = CycleGan(steps=contest.steps, seed=seed)
        slices = [_slices(brains) for brains in shown]
        translators[name] = train_cyclegan(*slices, setup, output / f"cyclegan_{seed}_{contest.steps}")
        seconds[name] = time.monotonic() - began
    bundle = load_bundle(model)
    reference = reference_of(shown[1], bundle)
    rows = []
    for member in judged:
        here, there = (visit(member, scanner, contest.spacing_mm, contest.seed) for scanner in contest.scanners)
        mask = member.tissues().numpy() > 0
        source, target = (np.clip(image, 0, 1) * mask for image in (here.scan, there.scan))
        images = {RAW: source, BLUR: ndimage.gaussian_filter(source, BLUR_MM / contest.spacing_mm) * mask}
        images |= baseline_images(source, mask, shown[1])
        images[OURS] = harmonize(source, mask, bundle, reference, Compute()).image
        images |= {name: translate(translator, source, mask) for name, translator in translators.items()}
        images[TRUTH] = there.truth
        rows += _rows(member, images, target, there.truth, mask)
    return _write(pd.DataFrame(rows), seconds, contest, output)


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """A row per method: means over persons with 95 % intervals (Student's t), and how well fresh probes tell its
    images from scans of the second scanner (balanced accuracy, persons of one label map never on both sides).

    Parameters
    ----------
    table
        Columns `person`, `family`, `method`, scores, and features `f_*`; scans of the second scanner are the method "".
    """
    features = [column for column in table if column.startswith("f_")]
    targets, rows = table[table.method == ""], []
    for method, part in table[table.method != ""].groupby("method", sort=False):
        both = pd.concat([part, targets])
        told = probe(both[features].to_numpy(float), both.method.to_numpy(str), both.family.to_numpy(str))
        row: dict[str, Any] = {"method": method, "persons": len(part)}
        for score in SCORES:
            row |= {score: part[score].mean(), f"{score} interval": _interval(part[score].to_numpy())}
        row |= {"scanner": told.accuracy, "scanner interval": f"{told.low:.2f} to {told.high:.2f}"}
        rows.append({**row, "scanner shuffled": told.shuffled})
    return pd.DataFrame(rows)


def _rows(
    member: Member, images: dict[str, np.ndarray], target: np.ndarray, truth: np.ndarray, mask: np.ndarray
) -> list[dict[str, Any]]:
    about = {"person": member.name, "family": member.label_map}
    return [
        {
            **about,
            "method": method,
            **(scores_of(image, truth, images[RAW], mask) if method else {}),
            **{f"f_{name}": value for name, value in intensity_and_texture(image, mask).items()},
        }
        for method, image in {**images, "": target}.items()
    ]


def _write(table: pd.DataFrame, seconds: dict[str, float], contest: Contest, output: Path) -> pd.DataFrame:
    summary = summarise(table)
    summary["seconds of training"] = summary.method.map(seconds)
    write_text(output / "images.tsv", table.to_csv(sep="\t", index=False, float_format="%.6g"))
    write_text(output / "two_scanners.tsv", summary.to_csv(sep="\t", index=False, float_format="%.4g", na_rep="n/a"))
    names = [scanner.name for scanner in contest.scanners]
    about = {"scanners": names, "persons": contest.persons, "held out": contest.held_out, "steps": contest.steps}
    write_json(output / "two_scanners.json", plain({**about, "rows": summary.to_dict("records")}))
    return summary


def _scan(member: Member, scanner: Scanner, contest: Contest) -> np.ndarray:
    """White-striped brain in [0, 1], 0 outside, (X, Y, Z)."""
    image = visit(member, scanner, contest.spacing_mm, contest.seed).scan
    return (np.clip(image, 0, 1) * (member.tissues().numpy() > 0)).astype(np.float32)


def _slices(brains: list[np.ndarray]) -> Tensor:
    """The middle ones of all brains, (N, 1, H, W)."""
    stack = [to_slices(brain, AXIS) for brain in brains]
    first, last = (round(share * len(stack[0])) for share in MIDDLE)
    return pad_to_multiple(torch.cat([slices[first:last] for slices in stack]), MULTIPLE)


def _interval(values: np.ndarray) -> str:
    low, high = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
    return f"{low:.4f} to {high:.4f}"
