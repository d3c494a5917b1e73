"""Two simulated scanners and the methods that need to learn them: persons to learn from, others who were on both.

Half of the persons to learn from were on one scanner, half on the other. Those who are judged, of other label maps,
were on both: their scans of the first are brought to the second, where the truth is known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import ndimage, stats
from torch import Tensor

from imunity_bids.bids.outputs import plain, write_json, write_text
from imunity_bids.evaluation import baselines
from imunity_bids.evaluation.cohort_images import BLUR, MATCHING, NYUL
from imunity_bids.evaluation.cyclegan import AXIS, MULTIPLE, CycleGan, train_cyclegan, translate
from imunity_bids.evaluation.travelers import OURS, TRUTH, scores_of
from imunity_bids.harmonize.inference import Compute, harmonize
from imunity_bids.harmonize.references import reference_of
from imunity_bids.harmonize.slices import pad_to_multiple, to_slices
from imunity_bids.hashes import digest
from imunity_bids.metrics.textures import intensity_and_texture
from imunity_bids.models.bundle import Bundle, load_bundle
from imunity_bids.simulation.cohort import Member, label_maps, make_cohort, split_by_map, visit
from imunity_bids.simulation.scanners import Scanner
from imunity_bids.unlearning.probe import probe

RAW, SECOND = "raw", "the second scanner itself"
Method = Callable[[np.ndarray, np.ndarray], np.ndarray]  # brain in [0, 1] and its mask -> brain
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
    persons: int = 40
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
    slices = [_slices(brains) for brains in shown]
    key = digest([asdict(replace(contest, seeds=0)), *(path.name for path in label_maps(maps))])
    trained = {
        f"CycleGAN, seed {seed}": train_cyclegan(
            *slices, CycleGan(steps=contest.steps, seed=seed), output / f"cyclegan_{seed}_{key}"
        )
        for seed in range(contest.seeds)
    }
    methods = _methods(shown[1], load_bundle(model), contest.spacing_mm)
    methods |= {name: partial(translate, translator) for name, (translator, _) in trained.items()}
    table = pd.DataFrame([row for member in judged for row in _rows(member, methods, contest)])
    return _write(table, {name: seconds for name, (_, seconds) in trained.items()}, contest, output)


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """A row per method: means over persons with 95 % intervals (Student's t), and how well fresh probes tell its
    images from scans of the second scanner (balanced accuracy, persons of one label map never on both sides).

    Parameters
    ----------
    table
        Columns `person`, `family`, `method`, scores, and features `f_*`; `SECOND` are the scans that are aimed at.
    """
    features = [column for column in table if column.startswith("f_")]
    targets, rows = table[table.method == SECOND], []
    for method, part in table[table.method != SECOND].groupby("method", sort=False):
        both = pd.concat([part, targets])
        told = probe(both[features].to_numpy(float), both.method.to_numpy(str), both.family.to_numpy(str))
        row: dict[str, Any] = {"method": method, "persons": len(part)}
        for score in SCORES:
            row |= {score: part[score].mean(), f"{score} interval": _interval(part[score].to_numpy())}
        row |= {"scanner": told.accuracy, "scanner interval": f"{told.low:.2f} to {told.high:.2f}"}
        rows.append({**row, "scanner shuffled": told.shuffled})
    return pd.DataFrame(rows)


def _methods(references: list[np.ndarray], bundle: Bundle, spacing_mm: float) -> dict[str, Method]:
    """Those that are not trained on the two scanners."""
    contrast = reference_of(references, bundle)
    return {
        RAW: lambda brain, mask: brain,
        BLUR: lambda brain, mask: ndimage.gaussian_filter(brain, BLUR_MM / spacing_mm) * mask,
        MATCHING: lambda brain, mask: baselines.histogram_matching(brain, mask, references),
        NYUL: lambda brain, mask: baselines.nyul(brain, mask, references),
        OURS: lambda brain, mask: harmonize(brain, mask, bundle, contrast, Compute()).image,
    }


def _rows(member: Member, methods: Mapping[str, Method], contest: Contest) -> list[dict[str, Any]]:
    """A row per method, one for the truth, and one for the scan of the second scanner."""
    here, there = (visit(member, scanner, contest.spacing_mm, contest.seed) for scanner in contest.scanners)
    mask = member.tissues().numpy() > 0
    source, target = (np.clip(image, 0, 1) * mask for image in (here.scan, there.scan))
    images = {name: method(source, mask) for name, method in methods.items()}
    rows = [{"method": name, **scores_of(image, there.truth, source, mask)} for name, image in images.items()]
    rows += [{"method": TRUTH}, {"method": SECOND}]  # judged by their features alone
    return [
        {"person": member.name, "family": member.label_map, **row}
        | {f"f_{name}": value for name, value in intensity_and_texture(image, mask).items()}
        for row, image in zip(rows, [*images.values(), there.truth, target], strict=True)
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


def _interval(values: np.ndarray) -> str | None:
    """95 %, by Student's t; None where nothing was measured."""
    if np.isnan(values).all():
        return None
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return f"{values.mean() - half:.4f} to {values.mean() + half:.4f}"
