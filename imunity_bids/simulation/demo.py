"""A BIDS dataset out of nothing but installed packages: whole heads on two invented scanners.

Tissue maps of the ICBM template that nilearn carries are warped into new subjects; skull, fat and skin grow around;
a scanner turns them into an image by its contrast, bias field, resolution and noise. One subject lies in both scanners.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from imunity_bids.bids.outputs import write_json, write_nifti, write_text

NAME = "ImUnity-BIDS demo"
AT_ONCE = 2  # subjects; each takes 1.5 GB
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


class Visit(NamedTuple):
    """One scan; those of one subject stand together."""

    subject: str
    session: str
    scanner: Scanner


def make_dataset(folder: Path, seed: int = 1) -> Path:
    """Write the dataset: three subjects, four images; returns `folder`. The same seed gives the same files."""
    scanners = {scanner.name: scanner for scanner in SCANNERS}
    write_heads(folder, NAME, [Visit(subject, site, scanners[site]) for subject, site in VISITS], seed)
    write_tables(folder)
    return folder


def write_heads(
    folder: Path,
    name: str,
    visits: Sequence[Visit],
    seed: int,
    change: Callable[[str, np.ndarray], np.ndarray] = lambda subject, head: head,
    place: Callable[[np.random.Generator], np.ndarray] = lambda rng: np.eye(4),
) -> None:
    """A raw dataset of whole heads, without tables.

    Parameters
    ----------
    name
        Of the dataset.
    change
        What else makes a subject: gets tissue fractions (len(TISSUES), X, Y, Z), and returns them.
    place
        How the head lies at a visit: a rigid motion in mm, (4, 4), of the image's header.
    """
    maps, affine = template_head()

    def write_subject(subject: str, stays: list[tuple[int, Visit]]) -> None:
        head = change(subject, warp(maps, np.random.default_rng([seed, int(subject)])))
        for index, visit in stays:
            rng = np.random.default_rng([seed, 100 + index])
            data, grid = scan(head, affine, visit.scanner, rng)
            stem = f"sub-{subject}_ses-{visit.session}_T1w"
            path = folder / f"sub-{subject}" / f"ses-{visit.session}" / "anat" / f"{stem}.nii.gz"
            write_nifti(path, data, place(rng) @ grid, code=1)
            write_json(path.with_name(f"{stem}.json"), {"Manufacturer": f"Invented {visit.scanner.name}"})

    by_subject = groupby(enumerate(visits), key=lambda entry: entry[1].subject)
    with ThreadPoolExecutor(AT_ONCE) as pool:  # scipy, numpy and zlib let other threads run
        written = [pool.submit(write_subject, subject, list(stays)) for subject, stays in by_subject]
    for subject in written:
        subject.result()
    write_json(
        folder / "dataset_description.json",
        {"Name": name, "BIDSVersion": "1.11.0", "DatasetType": "raw", "License": "CC0"},
    )
    write_text(folder / "README.md", "Heads made from the ICBM template by imunity-bids; nobody was scanned.\n")


def write_tables(folder: Path) -> None:
    """The site of each session, since one person was at both."""
    write_text(folder / "participants.tsv", "participant_id\nsub-01\nsub-02\nsub-03\n")
    for subject in dict(VISITS):
        rows = "".join(f"ses-{site}\t{site}\n" for visitor, site in VISITS if visitor == subject)
        write_text(folder / f"sub-{subject}" / f"sub-{subject}_sessions.tsv", f"session_id\tsite\n{rows}")


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
