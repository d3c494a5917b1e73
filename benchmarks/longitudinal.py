"""Growth of the ventricles between two scans of one simulated person: with `--longitudinal`, and cross-sectionally.

python benchmarks/longitudinal.py OUT [--growth 0.02] [--scanner A] [--mm 2] [--seeds 1] [--bent]

The tissue maps of the demo's person are deformed smoothly around the ventricles until these are larger by the growth;
both heads are moved, and scanned with fields and noise of their own. The growth is measured as a boundary shift
integral (Freeborough and Fox 1997, doi:10.1109/42.640753) in one region of the template's space (the ventricles of the
first head, and 4 mm around), relative to the volume of CSF that is there in truth; its settings are those that find the
growth without a field, from tissue maps and from scans with noise alone (four persons, seeds 1 to 4).
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage
from scipy.optimize import brentq
from scipy.spatial.transform import Rotation

from imunity_bids.bids.outputs import sidecar_of, write_json, write_nifti
from imunity_bids.image.white_stripe import WHITE_MATTER
from imunity_bids.simulation.demo import SCANNERS, TISSUES, scan, template_head, warp
from imunity_bids.simulation.fields import receive_field

CSF, AROUND_MM, REACH_MM = TISSUES.index("csf"), 4, 4.0
AROUND_IT_MM, TISSUE = 6, 0.35  # where the level of brain is taken, and above what, white matter being at 0.7
CUT = 0.1  # chosen, with the rest of the measure, on tissue maps and noise alone (docs/longitudinal.md)
MOTIONS = (((2, -1, 1.5), (1.0, -2.0, 0.5)), ((-3, 2, -4), (-2.0, 3.0, -1.5)))  # degrees, mm
SESSIONS = ("1", "2")
WAYS = {"longitudinal": ["--longitudinal"], "cross-sectional": []}
MEASURE = "the same measure, no scanner and no motion"


def ventricles_of(maps: np.ndarray) -> np.ndarray:
    """The largest piece of CSF deep in the brain, bool."""
    inside = maps[: CSF + 1].sum(0) > 0.5
    depth = ndimage.distance_transform_edt(inside)
    pieces, _ = ndimage.label((maps[CSF] > 0.5) & (depth > 0.35 * depth.max()))
    return pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:])


def pull_of(ventricles: np.ndarray, mm: int) -> np.ndarray:
    """Field (3, X, Y, Z) that points to the ventricles, at most 1, smooth."""
    gradient = np.stack(np.gradient(ndimage.gaussian_filter(ventricles.astype(np.float32), REACH_MM / mm)))
    return gradient / np.linalg.norm(gradient, axis=0).max()


def coarser(maps: np.ndarray, affine: np.ndarray, mm: int) -> tuple[np.ndarray, np.ndarray]:
    """Maps of so many mm, each voxel the mean of those in it."""
    shape = np.array(maps.shape[1:]) // mm
    part = maps[(slice(None), *(slice(n * mm) for n in shape))]
    blocks = part.reshape(len(maps), shape[0], mm, shape[1], mm, shape[2], mm).mean((2, 4, 6))
    return blocks, affine @ nib.affines.from_matvec(mm * np.eye(3), np.full(3, (mm - 1) / 2))


def coarse_template(home: Path, mm: int) -> str:
    """The built-in template at so many mm, in a TemplateFlow folder of its own; its name."""
    from nilearn.datasets import load_mni152_brain_mask, load_mni152_template

    folder = home / "tpl-Coarse"
    folder.mkdir(parents=True, exist_ok=True)
    load_mni152_template(resolution=mm).to_filename(folder / "tpl-Coarse_res-1_desc-brain_T1w.nii.gz")
    load_mni152_brain_mask(resolution=mm).to_filename(folder / "tpl-Coarse_res-1_desc-brain_mask.nii.gz")
    os.environ["TEMPLATEFLOW_HOME"] = str(home)
    return "Coarse"


def moved(maps: np.ndarray, pull: np.ndarray, by: float, pose: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Maps with ventricles widened by pulling by so many voxels, then in another pose (4, 4, about the centre)."""
    grid = np.indices(maps.shape[1:], dtype=np.float32)
    back = np.linalg.inv(pose)
    where = np.tensordot(back[:3, :3], grid - centre, axes=1) + centre + back[:3, 3].reshape(3, 1, 1, 1)
    where += by * np.stack([ndimage.map_coordinates(part, where, order=1) for part in pull])
    return np.stack([ndimage.map_coordinates(part, where, order=1) for part in maps])


def fitting_pull(csf: np.ndarray, pull: np.ndarray, region: np.ndarray, growth: float) -> float:
    """By how many voxels to pull for that growth of the CSF in a region."""
    (box,) = ndimage.find_objects(ndimage.binary_dilation(region, iterations=4).astype(np.uint8))
    part, field, inside = csf[box], pull[(slice(None), *box)], region[box]
    grid = np.indices(part.shape, dtype=np.float32)

    def excess(by: float) -> float:
        return float(ndimage.map_coordinates(part, grid + by * field, order=1)[inside].sum() / part[inside].sum()) - 1

    return brentq(lambda by: excess(by) - growth, 0, 3, xtol=1e-4)


def make(folder: Path, growth: float, name: str, mm: int, seed: int, bent: bool = False) -> tuple[float, float]:
    """Write the dataset of a seed's person, fields and noise, and the region in the first scan's space; gives the
    region's share of CSF, and the growth by the same measure.

    Fields are smooth, as the judge's; with `bent` as the demo's, which have bends in planes through the ventricles.
    """
    maps, affine = template_head()
    maps, affine = coarser(warp(maps, np.random.default_rng([seed, 2])), affine, mm)
    ventricles = ventricles_of(maps)
    region = ndimage.distance_transform_edt(~ventricles, sampling=mm) <= AROUND_MM
    pull = pull_of(ventricles, mm)
    by = fitting_pull(maps[CSF], pull, region, growth)
    centre = (np.array(maps.shape[1:]).reshape(3, 1, 1, 1) - 1) / 2
    (scanner,) = (scanner for scanner in SCANNERS if scanner.name == name)
    brightness = np.tensordot(np.array(scanner.signal, np.float32), maps, axes=1)[None]
    amplitude = 0.0 if bent else scanner.bias
    # in voxels of the maps, whose affine is in mm
    scanner = replace(scanner, signal=(1.0,), spacing_mm=(1.0, 1.0, 1.0), bias=scanner.bias if bent else 0.0)
    clean, share = [], float(maps[CSF][region].mean())
    for session, (degrees, shift), pulled in zip(SESSIONS, MOTIONS, (0.0, by), strict=True):
        pose = nib.affines.from_matvec(
            Rotation.from_euler("xyz", degrees, degrees=True).as_matrix(), np.array(shift) / mm
        )
        head = moved(brightness, pull, pulled, pose, centre)
        field = receive_field(head.shape[1:], amplitude, np.random.default_rng([seed, int(session), 1]))
        data, grid = scan(head * field, affine, scanner, np.random.default_rng([seed, int(session)]))
        path = folder / "sub-01" / f"ses-{session}" / "anat" / f"sub-01_ses-{session}_T1w.nii.gz"
        write_nifti(path, data, grid, code=1)
        write_json(sidecar_of(path), {"Manufacturer": "simulated", "ManufacturersModelName": name})
        if session == SESSIONS[0]:
            posed = moved(region[None].astype(np.float32), pull, 0.0, pose, centre)[0]
            write_nifti(folder.with_name("region.nii.gz"), posed, affine, code=1)
        clean.append(moved(brightness, pull, pulled, np.eye(4), centre)[0])
    write_json(folder / "dataset_description.json", {"Name": "growing ventricles", "BIDSVersion": "1.11.0"})
    white = np.percentile(clean[0][region], 90) / WHITE_MATTER
    return share, growth_of(clean[0] / white, clean[1] / white, region, share, mm)


def growth_of(first: np.ndarray, second: np.ndarray, region: np.ndarray, share: float, mm: int) -> float:
    """Of CSF in a region, `share` of which it is in the first image.

    Each voxel counts by where it lies between the levels of CSF and of brain, cut a tenth of the way from both. Brain
    is taken 6 mm around the region, from the same voxels of both images; CSF deep in the region, where few voxels are:
    relative to brain it is the same for both images, since one scanner made both.
    """
    deep = ndimage.binary_erosion(region, iterations=(AROUND_MM + 2) // mm)
    around = ndimage.binary_dilation(region, iterations=AROUND_IT_MM // mm) & ~region
    around &= (first > TISSUE) & (second > TISSUE)
    scaled = [image / image[around].mean() for image in (first, second)]
    fluid = np.mean([np.median(image[deep]) for image in scaled])
    brain = [(image[region] - fluid) / (1 - fluid) for image in scaled]
    before, after = (np.clip((1 - CUT - part) / (1 - 2 * CUT), 0, 1).sum() for part in brain)
    return float((after - before) / (share * region.sum()))


def growth_in(out: Path, region_file: Path, description: str, share: float, mm: int) -> float:
    """Of the images of a run; the region goes to the template by the first scan's transform."""
    from imunity_bids.image.ants_bridge import apply

    paths = [next(out.glob(f"sub-01/ses-{s}/anat/*_space-*_desc-{description}_T1w.nii.gz")) for s in SESSIONS]
    images = [nib.load(path) for path in paths]
    forward = next(paths[0].parent.glob("*_from-T1w_to-*_xfm.mat"))
    region = nib.load(region_file)
    there = apply(np.asarray(region.dataobj), region, images[0], forward, "linear") > 0.5
    return growth_of(*(np.asarray(image.dataobj) for image in images), there, share, mm)


def growths(output: Path, seed: int, options: argparse.Namespace) -> dict[str, float]:
    """Of one simulated person, by all ways."""
    from imunity_bids.cli.run import main as run
    from imunity_bids.image.template import BUILT_IN

    dataset = output / "bids"
    share, truth = make(dataset, options.growth, options.scanner, options.mm, seed, options.bent)
    template = BUILT_IN if options.mm == 1 else coarse_template(output / "templateflow", options.mm)
    found = {MEASURE: truth}
    for name in options.ways:
        out = output / name
        run([str(dataset), str(out), "participant", "--template", template, "--nprocs", "1", *WAYS[name]])
        for description in ("preproc", "harmonized"):
            found[f"{name}, {description}"] = growth_in(out, output / "region.nii.gz", description, share, options.mm)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--growth", type=float, default=0.02)
    parser.add_argument("--mm", type=int, default=1, help="voxels of head and template: 2 takes an eighth of the time")
    parser.add_argument("--scanner", default="A", choices=[scanner.name for scanner in SCANNERS])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="of persons, fields and noise")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--bent", action="store_true", help="fields as the demo's")
    options = parser.parse_args()

    table = {seed: growths(options.output / f"seed-{seed}", seed, options) for seed in options.seeds}
    means = {name: float(np.mean([row[name] for row in table.values()])) for name in table[options.seeds[0]]}
    errors = {name: max(abs(row[name] - options.growth) for row in table.values()) for name in means}
    told = {"growth of the maps": options.growth, "by seed": table, "mean": means, "largest error": errors}
    print(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
