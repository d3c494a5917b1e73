"""compare.py ONE OTHER: the same images, within float32 rounding of the largest value, in two output folders."""

import sys
from pathlib import Path

import nibabel as nib
import numpy as np

LIMIT = 1e-5

one, other = map(Path, sys.argv[1:])
names = sorted(p.relative_to(one) for p in one.glob("sub-*/**/*.nii.gz"))
theirs = sorted(p.relative_to(other) for p in other.glob("sub-*/**/*.nii.gz"))
assert names and names == theirs, f"different files: {set(names) ^ set(theirs)}"
worst = 0.0
for name in names:
    a, b = (np.asarray(nib.load(folder / name).dataobj, np.float64) for folder in (one, other))
    apart = np.abs(a - b) / max(np.abs(a).max(), 1e-6)
    if apart.any():
        print(f"{name}: {np.mean(apart > 0):.2%} of the voxels differ, mean {apart.mean():.2e}, most {apart.max():.2e}")
    worst = max(worst, float(apart.max()))
print(f"{len(names)} images, largest relative difference {worst:.2e}")
sys.exit(worst > LIMIT)
