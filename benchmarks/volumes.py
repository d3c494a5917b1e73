"""Are tissue volumes right before and after harmonization? Against somebody else's labels of the same scans.

imunity-evaluate sites OUT DERIVATIVES DERIVATIVES …
python benchmarks/volumes.py OUT/sites.tsv LABELS [--site NAME]

LABELS holds `*_desc-dlmuse_dseg.nii.gz` (MUSE's regions) of the persons of one of the folders. Spearman's correlation
over persons, with a 95 % interval from drawing them anew, of gray matter's share of gray and white matter, and of each
tissue's share of the brain: a share does not depend on the space, and template space is not the scan's.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from imunity_bids.metrics.similarity import rank_correlation
from imunity_bids.metrics.tissue_classes import TISSUES

# Cortical CSF, third, fourth, inferior and lateral ventricles; and brain stem, cerebellar and ventral diencephalic
# white matter, chiasm, lobes, fornix, capsules and corpus callosum. What is left is gray.
CSF = (1, 4, 11, 46, *range(49, 53))
WHITE = (35, 40, 41, 61, 62, 69, *range(81, 96))
DRAWS = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path, help="sites.tsv")
    parser.add_argument("labels", type=Path)
    parser.add_argument("--site", help="folder of the persons, where others have the same names")
    options = parser.parse_args()
    truth = pd.DataFrame({person_of(path): volumes_of(path) for path in options.labels.rglob("*_dseg.nii.gz")}).T
    table = pd.read_csv(options.table, sep="\t")
    if options.site:
        table = table[table.site == options.site]
    table["person"] = table.person.str.split("/").str[-1]
    for method, part in table.groupby("method", sort=False):
        found = part.groupby("person")[list(TISSUES)].mean()
        both = found.join(truth.add_suffix("_truth"), how="inner").dropna()
        measured, wanted = shares(both[list(TISSUES)]), shares(both[[f"{t}_truth" for t in TISSUES]])
        told = "  ".join(f"{name} {interval(measured[name], wanted[name])}" for name in measured)
        print(f"{method:12} {len(both)} persons  {told}")


def person_of(path: Path) -> str:
    return path.name.split("_")[0]


def volumes_of(path: Path) -> dict[str, int]:
    """Voxels of CSF, gray and white matter."""
    labels = np.asarray(nib.load(path).dataobj)
    csf, white = (int(np.isin(labels, those).sum()) for those in (CSF, WHITE))
    return dict(zip(TISSUES, (csf, int((labels > 0).sum()) - csf - white, white), strict=True))


def shares(volumes: pd.DataFrame) -> dict[str, np.ndarray]:
    """By name, over persons."""
    csf, gray, white = volumes.to_numpy(float).T
    whole = csf + gray + white
    return {"gray of both": gray / (gray + white), "csf": csf / whole, "gray": gray / whole, "white": white / whole}


def interval(a: np.ndarray, b: np.ndarray) -> str:
    rng = np.random.default_rng(1)
    drawn = [rank_correlation(a[some], b[some]) for some in rng.integers(len(a), size=(DRAWS, len(a)))]
    low, high = np.percentile(drawn, (2.5, 97.5))
    return f"{rank_correlation(a, b):.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    main()
