"""The field through white matter against plain N4: on simulated visits, whose field is known, and on real scans.

    python benchmarks/field.py --simulate DERIVATIVES [--include 'sub-0*'] [--seed 1]
    python benchmarks/field.py --real RAW DERIVATIVES

`DERIVATIVES` is an output of the app: brains to make persons of, or masks and transforms of the scans in `RAW`.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage
from skimage.filters import threshold_multiotsu

from imunity_bids.image.bias_field import smoothed, unbiased, white_map
from imunity_bids.image.conform import conform, read_image
from imunity_bids.image.template import load_template
from imunity_bids.image.white_stripe import to_model_scale, white_stripe
from imunity_bids.simulation.persons import Person, take_apart
from imunity_bids.simulation.scanners import SCANNERS
from imunity_bids.simulation.visits import traveler

STRONG = 0.7  # amplitude of the receive field
METHODS = ("plain", "white-matter")
SMOOTH = 4  # σ in voxels of what counts as smooth variation


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulate", type=Path, metavar="DERIVATIVES")
    parser.add_argument("--include", default="sub-*", help="persons' folders")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--real", type=Path, nargs=2, metavar=("RAW", "DERIVATIVES"))
    options = parser.parse_args()
    if options.simulate:
        simulate(options.simulate, options.include, options.seed)
    if options.real:
        compare_real(*options.real, options.include)


def simulate(derivatives: Path, include: str, seed: int) -> None:
    """Every person on every scanner, and on two with a strong receive field; means over persons."""
    scanners = {scanner.name: scanner for scanner in SCANNERS}
    for name in ("MPRAGE-3T", "SPGR-1.5T"):
        scanners[f"{name}-strong"] = replace(scanners[name], name=f"{name}-strong", receive=STRONG)
    rows = defaultdict(list)
    for person in _persons(derivatives, include):
        for name, scanner in scanners.items():
            scan, truth = traveler(person, scanner, seed)
            silent, _ = traveler(person, replace(scanner, noise=0), seed)  # of the same name, so with the same fields
            for method in METHODS:
                rows[name, method].append(_errors(scan, silent, truth, person, method))
        print(person.name, flush=True)
    print("scanner\tmethod\tMAE\tsmooth variation\tfield\tCJV/true\twhite level (mean, SD)\tseconds")
    for (name, method), values in rows.items():
        means, spread = np.mean(values, 0), np.std(values, 0)
        print(name, method, *(f"{v:.4f}" for v in means[:5]), f"{spread[4]:.4f}", f"{means[5]:.1f}", sep="\t")
    for title, strong in (("usual", False), ("strong", True)):
        chosen = {m: np.concatenate([rows[n, m] for n in scanners if n.endswith("-strong") == strong]) for m in METHODS}
        ratio = chosen["white-matter"].mean(0) / chosen["plain"].mean(0)
        levels = chosen["white-matter"][:, 4]
        print(f"{title}: ratio to plain: MAE {ratio[0]:.3f}, smooth variation {ratio[1]:.3f}, field {ratio[2]:.3f}")
        print(f"{title}: white level {levels.mean():.4f} ± {levels.std():.4f} of the true one, {len(levels)} visits")


def _persons(derivatives: Path, include: str) -> Iterator[Person]:
    for path in sorted(derivatives.glob(f"{include}/**/*_space-*_desc-preproc_T1w.nii.gz")):
        mask = np.asarray(nib.load(path.with_name(path.name.replace("preproc_T1w", "brain_mask"))).dataobj) > 0
        box = ndimage.find_objects(mask.astype(np.uint8))[0]
        brain = nib.load(path).slicer[box]
        yield take_apart(path.name.split("_")[0], brain, mask[box], load_template().core_on(brain))


def _errors(scan: np.ndarray, silent: np.ndarray, truth: np.ndarray, person: Person, method: str) -> tuple[float, ...]:
    """MAE, smooth variation of white matter, error of the log field, CJV / true CJV, white level / true, seconds.

    The field that there is comes from the scan without noise (`silent`), in white and gray matter.
    """
    mask = person.mask
    start = time.perf_counter()
    made = unbiased(nib.Nifti1Image(scan, person.affine), mask, smoothed(person.core), method)
    seconds = time.perf_counter() - start
    core = person.core if method == "white-matter" else None
    image = to_model_scale(made.image, mask, white_stripe(made.image, mask, core))[0]
    white, gray = person.fractions[2] > 0.9, person.fractions[1] > 0.9
    ratio = np.where(white, image / np.maximum(truth, 0.05), 0).astype(np.float32)
    weight = ndimage.gaussian_filter(white.astype(np.float32), SMOOTH)  # over white matter alone
    variation = ndimage.gaussian_filter(ratio, SMOOTH)[white] / weight[white]
    there = (white | gray) & (np.minimum(silent, truth) > 0.05)
    left = np.log(silent[there] / truth[there]) - np.log(made.field[there])
    return (
        float(np.abs(image - np.clip(truth, 0, 1))[mask].mean()),
        float(variation.std() / variation.mean()),
        float(left.std()),
        _cjv(image, white, gray) / _cjv(truth, white, gray),
        float(np.median(ratio[white])),
        seconds,
    )


def compare_real(raw: Path, derivatives: Path, include: str) -> None:
    """Coefficient of variation of white matter and CJV of every scan, both methods, in one segmentation."""
    template, rows = load_template(), []
    print("scan\tCV plain\tCV new\tCJV plain\tCJV new\tseconds plain\tnew")
    for mask_path in sorted(derivatives.glob(f"{include}/**/*_desc-brain_mask.nii.gz")):
        stem = mask_path.name.removesuffix("_desc-brain_mask.nii.gz")
        if "_space-" in stem:
            continue
        folder = mask_path.parent
        source = next((raw / folder.relative_to(derivatives)).glob(f"{stem}_T1w.nii*"))
        image, _ = conform(*read_image(source))
        mask = np.asarray(nib.load(mask_path).dataobj) > 0
        backward = next(folder.glob(f"{stem}_from-{template.label}_to-T1w_*xfm.mat"))
        made, seconds = {}, []
        for method in METHODS:
            start = time.perf_counter()
            white = white_map(template, image, backward) if method == "white-matter" else None
            made[method] = unbiased(image, mask, white, method).image
            seconds.append(time.perf_counter() - start)
        tissue = _segmentation([*made.values()], mask, white)
        numbers = [(_variation(i, tissue[0]), _cjv(i, *tissue)) for i in made.values()]
        rows.append([numbers[0][0], numbers[1][0], numbers[0][1], numbers[1][1], *seconds])
        print(stem, *(f"{value:.4f}" for value in rows[-1]), sep="\t", flush=True)
    table = np.array(rows)
    print("mean", *(f"{value:.4f}" for value in table.mean(0)), sep="\t")
    fell = [int((table[:, new] < table[:, new - 1]).sum()) for new in (1, 3)]
    print(f"CV fell in {fell[0]}, CJV in {fell[1]} of {len(table)} scans")


def _segmentation(images: list[np.ndarray], mask: np.ndarray, white: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """White and gray matter (bool) well inside, from what both images agree on, so that it favours neither."""
    masks = []
    for image in images:
        classes = np.digitize(image, threshold_multiotsu(image[mask], classes=3, nbins=256)) * mask
        masks.append((classes == 2, classes == 1))
    both = [masks[0][tissue] & masks[1][tissue] & mask for tissue in (0, 1)]
    return ndimage.binary_erosion(both[0]) & (white > 0.5), ndimage.binary_erosion(both[1]) & (white < 0.1)


def _variation(image: np.ndarray, white: np.ndarray) -> float:
    return float(image[white].std() / image[white].mean())


def _cjv(image: np.ndarray, white: np.ndarray, gray: np.ndarray) -> float:
    """(σ white + σ gray) / |μ white − μ gray|."""
    return float((image[white].std() + image[gray].std()) / abs(image[white].mean() - image[gray].mean()))


if __name__ == "__main__":
    main()
