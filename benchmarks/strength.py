"""How much of what the curves would change shall be done? Scores on slabs of brains held out from training, one table.

python benchmarks/strength.py OUT DERIVATIVES [DERIVATIVES …] --judge-on sub-10 --judge-on sub-63 [--model BUNDLE]

Choose on other brains than those that the figures of the bundle are from. Interrupted, it goes on.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import pandas as pd
from slabs import chosen, evaluated, scores, slab

from imunity_bids.models.card import find_bundle

STRENGTHS = (0.0, 0.25, 0.5, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("derivatives", type=Path, nargs="+")
    parser.add_argument("--judge-on", action="append", required=True, metavar="GLOB")
    parser.add_argument("--model", default="imunity")
    options = parser.parse_args()

    slabs = [slab(path, options.output / "slabs") for path in chosen(options.derivatives, options.judge_on)]
    rows = {}
    for strength in STRENGTHS:
        folder = options.output / f"{strength:.2f}"
        model = _with_strength(find_bundle(options.model), strength, folder / "bundle")
        rows[strength] = scores(evaluated(slabs, model, folder, options.output / "visits"))
        print(pd.DataFrame(rows).T.round(4).to_string(), flush=True)


def _with_strength(bundle: Path, strength: float, copy: Path) -> Path:
    shutil.copytree(bundle, copy, dirs_exist_ok=True)
    card = json.loads((copy / "bundle.json").read_text())
    card["architecture"]["strength"] = strength
    (copy / "bundle.json").write_text(json.dumps(card))
    return copy


if __name__ == "__main__":
    main()
