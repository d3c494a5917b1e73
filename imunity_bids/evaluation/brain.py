"""How good are brain masks? Real heads with reference labels, and simulated heads whose truth is exact."""

from __future__ import annotations

import json
import logging
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import torch

from imunity_bids.errors import DataUnusable, InputMissing
from imunity_bids.image.brain_mask import BrainMask, load_network, network_mask
from imunity_bids.image.conform import conform, read_image
from imunity_bids.image.extraction import extract_brain
from imunity_bids.models.brain import SPACING_MM
from imunity_bids.qc.measures import findings
from imunity_bids.qc.verdict import verdict
from imunity_bids.simulation.heads import HeadSimulator, read_label_map
from imunity_bids.training.brain import VALIDATION_SEED, split_maps

log = logging.getLogger(__name__)

Method = Callable[[nib.Nifti1Image], BrainMask]


@dataclass(frozen=True)
class Case:
    """One head and its reference mask (bool) on the same grid."""

    name: str
    group: str
    image: nib.Nifti1Image
    truth: np.ndarray


def network_method(folder: Path, border_mm: float, device: str) -> Method:
    """The shipped network, or another model folder."""
    network = load_network(folder, device)
    return lambda image: network_mask(image, network, border_mm)


def ants_method() -> Method:
    """Deformable registration of the built-in template."""
    return lambda image: extract_brain(image, "ants")


def real_cases(bids_dir: Path, labels: Path) -> Iterator[Case]:
    """T1w of a BIDS dataset that have a label image or mask in `labels`: any label above 0 is inside.

    Raises
    ------
    InputMissing
        No scan has labels.
    """
    count = 0
    for path in sorted(Path(bids_dir).glob("sub-*/**/anat/*_T1w.nii*")):
        subject = path.name.split("_")[0]
        anat = Path(labels) / path.parent.relative_to(bids_dir)
        references = sorted(anat.glob(f"{subject}_*_dseg.nii*")) or sorted(anat.glob(f"{subject}_*_mask.nii*"))
        if not references:
            log.warning("%s has no labels below %s: left out", subject, labels)
            continue
        image, _ = conform(*read_image(path))
        truth = nib.as_closest_canonical(nib.load(references[0]))
        count += 1
        yield Case(path.name.removesuffix(".gz").removesuffix(".nii"), "real", image, np.asarray(truth.dataobj) > 0)
    if count == 0:
        raise InputMissing(f"no T1w scan of {bids_dir} has labels below {labels}")


def simulated_cases(maps: Path, holdout: int, per_map: int) -> Iterator[Case]:
    """Heads simulated from the maps that training held out."""
    _, held_out = split_maps(maps, holdout)
    simulator = HeadSimulator([read_label_map(path) for path in held_out])
    affine = np.diag([SPACING_MM] * 3 + [1.0])
    for head, path in enumerate(held_out):
        for index in range(per_map):
            image, mask = simulator(VALIDATION_SEED + 1000 * (head + 1) + index, head)
            name = f"{path.name.split('.')[0]}-{index:03d}"
            yield Case(name, "simulated", nib.Nifti1Image(image[0].numpy(), affine), mask[0].numpy() > 0)


def score(case: Case, method: Method) -> dict[str, float | str]:
    """Dice (1 is best), 95 % Hausdorff distance (mm, 0 is best), volume ratio (1 is best), verdict of quality control,
    seconds. A method that finds no brain has a Dice of 0."""
    from monai.metrics import compute_hausdorff_distance

    start = time.perf_counter()
    try:
        brain = method(case.image)
    except DataUnusable as error:
        return {"dice": 0.0, "hd95": np.nan, "volume_ratio": 0.0, "verdict": "failed", "reason": str(error)}
    seconds = time.perf_counter() - start
    rating, reason = verdict(findings(brain.measures()))
    pair = [torch.from_numpy(m.astype(np.float32))[None, None] for m in (brain.mask, case.truth)]
    spacing = [float(z) for z in case.image.header.get_zooms()[:3]]
    return {
        "dice": float(2 * (brain.mask & case.truth).sum() / (brain.mask.sum() + case.truth.sum())),
        "hd95": float(compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=spacing)),
        "volume_ratio": float(brain.mask.sum() / case.truth.sum()),
        "verdict": rating,
        "reason": reason,
        "seconds": seconds,
    }


def evaluate(cases: Iterator[Case], methods: dict[str, Method], output: Path) -> pd.DataFrame:
    """Score every method on every case; writes `brain.tsv` and `brain.json` into `output`."""
    rows = []
    for case in cases:
        for name, method in methods.items():
            rows.append({"case": case.name, "group": case.group, "method": name, **score(case, method)})
            log.info("%s %s: Dice %.4f", case.name, name, rows[-1]["dice"])
    table = pd.DataFrame(rows)
    output.mkdir(parents=True, exist_ok=True)
    table.to_csv(output / "brain.tsv", sep="\t", index=False, na_rep="n/a", float_format="%.5f")
    summary = summarise(table)
    summary_json = {f"{group}/{method}": row.to_dict() for (group, method), row in summary.iterrows()}
    summary_json["peak_memory_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    (output / "brain.json").write_text(json.dumps(summary_json, indent=2) + "\n")
    return summary


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """One row per kind of head and method."""
    return table.groupby(["group", "method"]).apply(
        lambda t: pd.Series(
            {
                "n": len(t),
                "dice_median": t.dice.median(),
                "dice_p5": t.dice.quantile(0.05),
                "dice_worst": t.dice.min(),
                "hd95_median": t.hd95.median(),
                "volume_ratio": t.volume_ratio.median(),
                "failed": int((t.verdict == "failed").sum()),
                "check": int((t.verdict == "check").sum()),
                "seconds_median": t.seconds.median(),
            }
        )
    )
