"""Both decoders and each part of the training, left out in turn: same brains, same steps, same judge, one table.

python benchmarks/ablation.py OUT DERIVATIVES [DERIVATIVES …] --judge-on sub-12 --judge-on sub-14 --judge-on sub-69

Small on purpose: few steps, and a slab of each unseen brain on three simulated scanners. Interrupted, it goes on.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from imunity_bids.evaluation.scanners import SCANNERS
from imunity_bids.evaluation.travelers import evaluate_travelers
from imunity_bids.models.imunity import Architecture
from imunity_bids.training.bundle import train_bundle
from imunity_bids.training.harmonizer import PRESETS, HarmonizerTraining
from imunity_bids.training.slices import hold_out, load_brains

SLAB = 32  # axial slices around the middle of the brain
OURS = Architecture(bins=12, smooth=9, prematch=True)
WEIGHTS = replace(PRESETS["code"], adversarial=0, levels=50)
VARIANTS = {
    "curves": {},
    "synthesis": {"architecture": replace(OURS, decoder="synthesis")},
    "curves, no SSIM term": {"weights": replace(WEIGHTS, ssim=0)},
    "curves, no unlearning": {"unlearn": False},
    "curves, γ only": {"paper_contrast": True},
    "curves, spatial contrast code": {"architecture": replace(OURS, pooled_contrast=False)},
    "curves, no matching before": {"architecture": replace(OURS, prematch=False)},
    "paper: synthesis, γ only, no matching, no bins": {
        "architecture": Architecture(decoder="synthesis"),
        "weights": replace(WEIGHTS, levels=0),
        "paper_contrast": True,
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("derivatives", type=Path, nargs="+")
    parser.add_argument("--judge-on", action="append", required=True, metavar="GLOB", help="files kept from training")
    parser.add_argument("--steps", type=int, default=300, help="of the axial model")
    parser.add_argument("--later-steps", type=int, default=75, help="of the two others, which start from it")
    parser.add_argument("--precision", default="bfloat16")
    options = parser.parse_args()

    wanted = [f"**/{glob}_space-*_desc-preproc_T1w.nii.gz" for glob in options.judge_on]
    kept = [path for glob in wanted for folder in options.derivatives for path in sorted(folder.glob(glob))]
    slabs = [slab(path, options.output / "slabs") for path in kept]
    brains, sites = load_brains(options.derivatives, exclude=[f"*{path.name}" for path in kept])
    training, judges = hold_out(brains, 2)
    rows = {}
    for name, changes in VARIANTS.items():
        folder = options.output / "".join(letter if letter.isalnum() else "-" for letter in name)
        setup = HarmonizerTraining(
            **{"architecture": OURS, "weights": WEIGHTS, **changes},
            output=folder, axis="axial", steps=options.steps, batch=8, crop=96, rate=7e-4, every=options.steps,
            precision=options.precision,
        )  # fmt: skip
        model = folder / "bundle"
        if not (model / "bundle.json").is_file():
            train_bundle(setup, training, sites, judges, name, "", options.later_steps)
        if not (folder / "travelers.json").is_file():
            share_visits(folder, options.output / "visits")
            evaluate_travelers(slabs, model, folder, scanners=SCANNERS[::2])
        summary = json.loads((folder / "travelers.json").read_text())
        ours = summary["travels"]["imunity"]
        rows[name] = {score: ours[score] for score in ("ssim", "mae", "gradient_correlation")} | {
            "worst direction": summary["worst_direction"]["gain_over_raw"],
            "identity SSIM": summary["identity"]["ssim"],
            "identity MAE": summary["identity"]["mae"],
        }
        for other in ("raw", "histogram matching"):
            rows[other] = {score: summary["travels"][other][score] for score in ("ssim", "mae", "gradient_correlation")}
        table = pd.DataFrame(rows).T
        table.to_csv(options.output / "ablation.tsv", sep="\t", float_format="%.4f")
        print(table.round(4).to_string(), flush=True)


def share_visits(folder: Path, visits: Path) -> None:
    """All evaluations use the scans that the first one made."""
    _made(visits)
    if not (folder / "visits").exists():
        (folder / "visits").symlink_to(visits.resolve())


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def slab(path: Path, folder: Path) -> Path:
    """The middle of a brain and of its mask, under the same names."""
    _made(folder)
    mask_path = path.with_name(path.name.replace("desc-preproc_T1w", "desc-brain_mask"))
    used = np.flatnonzero((np.asarray(nib.load(mask_path).dataobj) > 0).any(axis=(0, 1)))
    first = int(used.mean()) - SLAB // 2
    for file in (mask_path, path):
        nib.load(file).slicer[:, :, first : first + SLAB].to_filename(folder / file.name)
    return folder / path.name


if __name__ == "__main__":
    main()
