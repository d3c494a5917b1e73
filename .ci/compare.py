"""compare.py ONE OTHER: the same images in two output folders; means over the voxels that are not empty.

Nearly always they are the same bit for bit. Once a registration ended 0.01 mm elsewhere, which moves an
edge by 0.0075 and the mean by much less; another build, template or model moves the mean by more than the limit.
"""

import sys
from pathlib import Path

import nibabel as nib
import numpy as np

LIMIT = 1e-3  # of the largest value, in the mean

one, other = map(Path, sys.argv[1:])
names = sorted(p.relative_to(one) for p in one.glob("sub-*/**/*.nii.gz"))
theirs = sorted(p.relative_to(other) for p in other.glob("sub-*/**/*.nii.gz"))
assert names and names == theirs, f"different files: {set(names) ^ set(theirs)}"
worst = 0.0
for name in names:
    a, b = (np.asarray(nib.load(folder / name).dataobj, np.float64) for folder in (one, other))
    full = (a != 0) | (b != 0)
    apart = np.abs(a - b)[full] / max(np.abs(a).max(), 1e-6)
    if apart.any():
        print(f"{name}: {np.mean(apart > 0):.2%} of the voxels differ, mean {apart.mean():.2e}, most {apart.max():.2e}")
    worst = max(worst, float(apart.mean()) if apart.size else 0.0)
print(f"{len(names)} images, largest mean difference {worst:.2e}")
sys.exit(worst > LIMIT)
