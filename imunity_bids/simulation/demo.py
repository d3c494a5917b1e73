"""A BIDS dataset out of nothing but installed packages: whole heads on two invented scanners.

Tissue maps of the ICBM template that nilearn carries are warped into new subjects; skull, fat and skin grow around;
a scanner turns them into an image by its contrast, bias field, resolution and noise. One subject lies in both scanners.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from imunity_bids.bids.outputs import write_json, write_nifti, write_text

NAME = "ImUnity-BIDS demo"
TISSUES = ("gray", "white", "csf", "bone", "fat", "muscle", "eye")


@dataclass(frozen=True)
class Scanner:
    """How one scanner sees the tissues (signal of `TISSUES`), and what it adds."""

    name: str
    signal: tuple[float, ...]
    bias: float  # amplitude of the bias field
    spacing_mm: tuple[float, float, float]
    noise: float  # standard deviation, white matter being about 1
    gain: float


SCANNERS = (
    Scanner("A", (0.62, 0.95, 0.22, 0.05, 1.10, 0.45, 0.20), 0.20, (1.0, 1.0, 1.0), 0.020, 800.0),
    Scanner("B", (0.80, 1.00, 0.40, 0.08, 0.90, 0.60, 0.35), 0.35, (1.2, 1.0, 1.0), 0.045, 250.0),
)
VISITS = (("01", "A"), ("02", "A"), ("02", "B"), ("03", "B"))


def make_dataset(folder: Path, seed: int = 1) -> Path:
    """Write the dataset: three subjects, four images; returns `folder`. The same seed gives the same files."""
    maps, affine = template_head()
    heads = {subject: warp(maps, np.random.default_rng([seed, int(subject)])) for subject, _ in VISITS}
    scanners = {scanner.name: scanner for scanner in SCANNERS}
    for index, (subject, name) in enumerate(VISITS):
        rng = np.random.default_rng([seed, 100 + index])
        data, grid = scan(heads[subject], affine, scanners[name], rng)
        path = folder / f"sub-{subject}" / f"ses-{name}" / "anat" / f"sub-{subject}_ses-{name}_T1w.nii.gz"
        write_nifti(path, data, grid, code=1)
        write_json(path.with_name(path.name.replace(".nii.gz", ".json")), {"Manufacturer": f"Invented {name}"})
    write_json(
        folder / "dataset_description.json",
        {"Name": NAME, "BIDSVersion": "1.11.0", "DatasetType": "raw", "License": "CC0"},
    )
    write_text(folder / "README.md", "Heads made by imunity-demo from the ICBM template; nobody was scanned.\n")
    write_text(folder / "participants.tsv", "participant_id\tsite\nsub-01\tA\nsub-02\tA\nsub-03\tB\n")
    return folder


def template_head() -> tuple[np.ndarray, np.ndarray]:
    """Tissue fractions (len(TISSUES), X, Y, Z) of a whole head at 1 mm, and the affine."""
    from nilearn import datasets

    pad = 24
    gray, white, mask = (
        np.pad(np.asarray(image.dataobj, dtype=np.float32), pad)
        for image in (
            datasets.load_mni152_gm_template(resolution=1),
            datasets.load_mni152_wm_template(resolution=1),
            datasets.load_mni152_brain_mask(resolution=1),
        )
    )
    affine = datasets.load_mni152_brain_mask(resolution=1).affine.copy()
    affine[:3, 3] -= pad * np.diag(affine)[:3]
    inside = ndimage.binary_fill_holes(ndimage.gaussian_filter(mask, 1.0) > 0.35)
    total = np.maximum(gray + white, 1.0)
    gray, white = gray / total * inside, white / total * inside
    csf = np.clip(inside - gray - white, 0, 1)
    distance = ndimage.distance_transform_edt(~inside)
    above = np.arange(inside.shape[2]) > int(np.argwhere(inside)[:, 2].min()) + 12  # the neck is cut below
    skull = (distance > 0) & (distance <= 6)
    marrow = (distance > 2) & (distance <= 4)
    fat = (distance > 6) & (distance <= 11)
    muscle = (distance > 11) & (distance <= 13)
    eye = np.zeros_like(inside)
    front, low = int(np.argwhere(inside)[:, 1].max()), int(np.argwhere(inside)[:, 2].min())
    middle = inside.shape[0] // 2
    grid = np.indices(inside.shape)
    for side in (-32, 32):
        centre = np.array([middle + side, front - 14, low + 26])
        eye |= (((grid - centre[:, None, None, None]) ** 2).sum(0) < 12**2) & ~inside & (distance > 4)
    bone = (skull & ~marrow) & ~eye
    fat = (fat | marrow) & ~eye & ~bone
    muscle &= ~eye
    parts = [gray, white, csf, bone, fat, muscle, eye]
    return np.stack([part * (above | inside) for part in parts]).astype(np.float32), affine


def warp(maps: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another anatomy: small rotation and scaling, and a smooth deformation of a few mm."""
    shape = maps.shape[1:]
    scale = 1 + 0.05 * rng.standard_normal(3)
    angle = 0.06 * rng.standard_normal()
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    centre = (np.array(shape) - 1) / 2
    grid = np.indices(shape, dtype=np.float32)
    moved = np.tensordot(turn / scale, grid - centre[:, None, None, None], axes=1) + centre[:, None, None, None]
    for axis in range(3):
        nodes = 2.5 * rng.standard_normal((6, 6, 6))
        moved[axis] += ndimage.zoom(nodes, np.array(shape) / 6, order=1)
    return np.stack([ndimage.map_coordinates(part, moved, order=1) for part in maps])


def scan(
    head: np.ndarray, affine: np.ndarray, scanner: Scanner, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Image (int16) and its affine, as a scanner would give them."""
    image = np.tensordot(np.array(scanner.signal, np.float32), head, axes=1)
    image *= 1 + 0.04 * ndimage.gaussian_filter(rng.standard_normal(image.shape), 1.0)  # tissue is never flat
    nodes = rng.uniform(-1, 1, (3, 3, 3))
    image *= np.exp(scanner.bias * ndimage.zoom(nodes, np.array(image.shape) / 3, order=1))
    zoom = 1 / np.array(scanner.spacing_mm)
    image = ndimage.zoom(ndimage.gaussian_filter(image, 0.35 / zoom), zoom, order=1)
    noisy = np.hypot(
        image + scanner.noise * rng.standard_normal(image.shape), scanner.noise * rng.standard_normal(image.shape)
    )
    grid = affine.copy()
    grid[:3, :3] = affine[:3, :3] @ np.diag(scanner.spacing_mm)
    return (noisy * scanner.gain).astype(np.int16), grid
