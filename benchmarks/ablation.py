"""Both decoders and each part of the training, left out in turn: same brains, same steps, same evaluation, one table.

python benchmarks/ablation.py OUT DERIVATIVES [DERIVATIVES …] --judge-on sub-12 --judge-on sub-14 --judge-on sub-69

Small on purpose: few steps, and a slab of each unseen brain on three simulated scanners. Interrupted, it goes on.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import pandas as pd
from slabs import chosen, evaluated, scores, slab

from imunity_bids.models.imunity import Architecture
from imunity_bids.training.assemble import BundleTraining, train_bundle
from imunity_bids.training.dataset import hold_out, load_brains
from imunity_bids.training.harmonizer import HarmonizerTraining
from imunity_bids.training.losses import PRESETS

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

    kept = chosen(options.derivatives, options.judge_on)
    slabs = [slab(path, options.output / "slabs") for path in kept]
    brains, sites = load_brains(options.derivatives, exclude=[f"*{path.name}" for path in kept])
    training, held_out = hold_out(brains, 2)
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
            plan = BundleTraining(setup, name, later_steps=options.later_steps)
            train_bundle(plan, training, sites, held_out)
        summary = evaluated(slabs, model, folder, options.output / "visits")
        rows[name] = scores(summary)
        for baseline in ("raw", "histogram matching"):
            rows[baseline] = scores(summary, baseline)
        table = pd.DataFrame(rows).T
        table.to_csv(options.output / "ablation.tsv", sep="\t", float_format="%.4f")
        print(table.round(4).to_string(), flush=True)


if __name__ == "__main__":
    main()
