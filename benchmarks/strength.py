"""How much of what the curves say shall be done? The judge on slabs of brains held out from training, one table.

python benchmarks/strength.py OUT DERIVATIVES [DERIVATIVES …] --judge-on sub-10 --judge-on sub-63 [--model BUNDLE]

Choose on other brains than those that the bundle is judged by. Interrupted, it goes on.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import pandas as pd
from ablation import share_visits, slab

from imunity_bids.evaluation.scanners import SCANNERS
from imunity_bids.evaluation.travelers import OURS, evaluate_travelers
from imunity_bids.models.bundle import find_bundle

STRENGTHS = (0.0, 0.25, 0.5, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("derivatives", type=Path, nargs="+")
    parser.add_argument("--judge-on", action="append", required=True, metavar="GLOB")
    parser.add_argument("--model", default="imunity")
    options = parser.parse_args()

    wanted = [f"**/{glob}_space-*_desc-preproc_T1w.nii.gz" for glob in options.judge_on]
    slabs = [
        slab(path, options.output / "slabs")
        for glob in wanted
        for folder in options.derivatives
        for path in sorted(folder.glob(glob))
    ]
    rows = {}
    for strength in STRENGTHS:
        folder = options.output / f"{strength:.2f}"
        if not (folder / "travelers.json").is_file():
            model = _with_strength(find_bundle(options.model), strength, folder / "bundle")
            share_visits(folder, options.output / "visits")
            evaluate_travelers(slabs, model, folder, scanners=SCANNERS[::2])
        summary = json.loads((folder / "travelers.json").read_text())
        rows[strength] = {score: summary["travels"][OURS][score] for score in ("ssim", "mae")} | {
            "worst direction": summary["worst_direction"]["gain_over_raw"],
            "identity SSIM": summary["identity"]["ssim"],
            "identity MAE": summary["identity"]["mae"],
        }
        print(pd.DataFrame(rows).T.round(4).to_string(), flush=True)


def _with_strength(bundle: Path, strength: float, copy: Path) -> Path:
    shutil.copytree(bundle, copy, dirs_exist_ok=True)
    card = json.loads((copy / "bundle.json").read_text())
    card["architecture"]["strength"] = strength
    (copy / "bundle.json").write_text(json.dumps(card))
    return copy


if __name__ == "__main__":
    main()
