"""What a lesion changes in the rest of the brain, with its mask given and without.

python benchmarks/lesion.py IMAGE OUT [--reference FILE] [--template NAME]

A ball of 20 mL of mostly white matter in one hemisphere is darkened to 0.3 times its intensity. Means over the brain
without the ball and a voxel around it, of absolute differences from the same scan without lesion, white matter at 0.7.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from imunity_bids.bids.outputs import write_json, write_nifti

VOLUME_ML, DARKER = 20.0, 0.3
CASES = ("none", "masked", "unmasked")


def ball_in_white_matter(image: nib.Nifti1Image, mask: np.ndarray) -> np.ndarray:
    """The ball (bool) in the right hemisphere that holds most of what is as bright as white matter."""
    data = np.asarray(image.dataobj, dtype=np.float32)
    zooms = np.array(image.header.get_zooms()[:3])
    radius = (3 * VOLUME_ML * 1000 / (4 * np.pi)) ** (1 / 3)
    bright = mask & (data > np.percentile(data[mask], 60)) & (data < np.percentile(data[mask], 98))
    share = ndimage.gaussian_filter(bright.astype(np.float32), radius / 2 / zooms)
    middle = ndimage.center_of_mass(mask)
    share[: int(middle[0] + radius / zooms[0])] = 0  # axes are in RAS order
    share[ndimage.distance_transform_edt(mask, sampling=zooms) < radius] = 0
    centre = np.unravel_index(np.argmax(share), share.shape)
    grid = np.indices(mask.shape).astype(np.float32)
    return sum(((grid[k] - centre[k]) * zooms[k]) ** 2 for k in range(3)) <= radius**2


def make(source: Path, folder: Path) -> None:
    """Three persons: the scan, and the scan with the lesion, with its mask and without."""
    from imunity_bids.image.conform import conform, read_image
    from imunity_bids.image.extraction import extract_brain

    image, _ = conform(*read_image(source))
    data, ball = np.asarray(image.dataobj), ball_in_white_matter(image, extract_brain(image).mask)
    for case in CASES:
        anat = folder / f"sub-{case}" / "anat"
        dark = data if case == "none" else np.where(ball, DARKER * data, data)
        write_nifti(anat / f"sub-{case}_T1w.nii.gz", dark.astype(np.float32), image.affine, 1)
        if case == "masked":
            write_nifti(anat / f"sub-{case}_label-lesion_roi.nii.gz", ball.astype(np.uint8), image.affine, 1)
    write_nifti(folder.with_name("lesion.nii.gz"), ball.astype(np.uint8), image.affine, 1)
    write_json(folder / "dataset_description.json", {"Name": "a lesion", "BIDSVersion": "1.11.0"})


def compare(out: Path, lesion_file: Path) -> dict[str, dict[str, float]]:
    from imunity_bids.image.ants_bridge import apply, read_motion

    def load(case: str, ending: str) -> nib.Nifti1Image:
        return nib.load(next((out / f"sub-{case}" / "anat").glob(f"sub-{case}_{ending}")))

    lesion, told = nib.load(lesion_file), {}
    forwards = {case: next((out / f"sub-{case}" / "anat").glob("*_from-T1w_to-*_xfm.mat")) for case in CASES}
    for case in CASES[1:]:
        rest = {}
        for space, prefix in (("template space", "space-*_"), ("own voxels", "")):
            masks = [np.asarray(load(name, f"{prefix}desc-brain_mask.nii.gz").dataobj) > 0 for name in ("none", case)]
            grid = load("none", f"{prefix}desc-brain_mask.nii.gz")
            ball = np.asarray(lesion.dataobj, dtype=np.float32)
            there = ball if not prefix else apply(ball, lesion, grid, forwards["none"], "linear")
            rest[space] = masks[0] & masks[1] & ~ndimage.binary_dilation(there > 0.01)
        numbers = {}
        for name, ending, space in (
            ("white-striped, template space", "space-*_desc-preproc_T1w.nii.gz", "template space"),
            ("harmonized, template space", "space-*_desc-harmonized_T1w.nii.gz", "template space"),
            ("harmonized, own voxels", "desc-harmonized_T1w.nii.gz", "own voxels"),
        ):
            before, after = (np.asarray(load(one, ending).dataobj) for one in ("none", case))
            numbers[name] = float(np.abs(after - before)[rest[space]].mean())
        grid = load("none", "space-*_desc-brain_mask.nii.gz")
        points = np.argwhere(np.asarray(grid.dataobj) > 0)[::97] @ grid.affine[:3, :3].T + grid.affine[:3, 3]
        ways = [nib.affines.apply_affine(read_motion(forwards[one]), points) for one in ("none", case)]
        numbers["mean displacement, mm"] = float(np.linalg.norm(ways[1] - ways[0], axis=1).mean())
        told[case] = numbers
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--reference", default="default")
    parser.add_argument("--template", default="MNI152NLin2009aSym")
    options = parser.parse_args()

    from imunity_bids.cli.run import main as run

    dataset, out = options.output / "bids", options.output / "derivatives"
    make(options.image, dataset)
    run([
        str(dataset), str(out), "participant", "--reference", options.reference, "--template", options.template,
        "--output-spaces", "T1w", "--nprocs", "1", "--omp-nthreads", "1",
    ])  # fmt: skip
    print(json.dumps(compare(out, options.output / "lesion.nii.gz"), indent=2))


if __name__ == "__main__":
    main()
