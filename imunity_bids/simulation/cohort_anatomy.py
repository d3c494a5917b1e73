"""A label map as anatomy that can grow old: tissues, distances to its surfaces, and the fields that deform it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from imunity_bids.simulation.heads import CEREBELLUM, OUTER_CSF, OUTSIDE

VENTRICLES = (4, 5, 43, 44, 72)
CSF = (*VENTRICLES, 14, 15, OUTER_CSF, 30, 62)
WHITE = (2, 41, 7, 46, 16, 28, 60, 85, 136, 137, 163, 164)  # all other labels of the brain are gray
FIELD_MM = (168, 192, 156)  # what of the head is shown, around the middle of the brain
GIVING_WAY_MM = 12.0  # how far from the ventricles tissue moves
CAP_RIM_MM, CAP_SHARE = 2.0, 0.9  # over what white matter turns gray around the ventricles, and how much of it
CORTEX_MM = 4.0  # depth below the outer surface that thinning reaches
FINE = 2  # samples per axis of a voxel, if it is larger than those of the label map
BELOW_CEREBELLUM = 4  # voxels
VENTRICLES_ML = 15.0  # of a young adult: label maps are of people of unknown age, and start alike by this
RIM = 2  # voxels beyond the tissue that know where it moves


@dataclass(frozen=True)
class Anatomy:
    """One brain at 1 mm, RAS; what is outside is 0. The two fields are how tissue moves, in mm per mm."""

    tissues: Tensor  # (3, X, Y, Z): CSF, gray, white
    widening: Tensor  # (3, X, Y, Z): away from the ventricles, 1 at their surface
    thinning: Tensor  # (3, X, Y, Z): inwards, 1 at the outer surface of the tissue
    middle: Tensor  # (3) voxel
    excess_mm: float  # by which the ventricles' surface lies outside of where `VENTRICLES_ML` would have it


def read_anatomy(path: Path) -> Anatomy:
    """The brain of a whole-head label map of 1 mm in any orientation, SynthSeg's numbers."""
    image = nib.as_closest_canonical(nib.load(path))
    return anatomy_of(np.asarray(image.dataobj).astype(np.int16))


def anatomy_of(labels: np.ndarray) -> Anatomy:
    """The same from the labels, (X, Y, Z) at 1 mm, RAS."""
    inside = (labels > 0) & (labels < OUTSIDE)
    cerebellum = np.nonzero(np.isin(labels, CEREBELLUM).any(axis=(0, 1)))[0]
    if len(cerebellum):
        inside[:, :, : max(0, cerebellum.min() - BELOW_CEREBELLUM)] = False
    box = tuple(slice(max(0, s.start - 4), s.stop + 4) for s in ndimage.find_objects(inside.astype(np.uint8))[0])
    labels, inside = labels[box], inside[box]
    csf, white = np.isin(labels, CSF) & inside, np.isin(labels, WHITE) & inside
    tissues = np.stack([csf, inside & ~csf & ~white, white])
    ventricles = np.isin(labels, VENTRICLES)
    tissue = inside & ~np.isin(labels, (OUTER_CSF, 30, 62))
    widening = _field(_distance(~ventricles) - _distance(ventricles), GIVING_WAY_MM)
    thinning = _field(_distance(tissue), CORTEX_MM) * ndimage.binary_dilation(tissue, iterations=RIM)
    parts = (torch.from_numpy(np.asarray(part, np.float32)) for part in (tissues, widening, thinning))
    middle = torch.tensor([(low.start + low.stop - 1) / 2 for low in ndimage.find_objects(inside.astype(np.uint8))[0]])
    surface = (ndimage.binary_dilation(ventricles) & ~ventricles).sum()  # mm², about
    return Anatomy(*parts, middle, float((ventricles.sum() - 1000 * VENTRICLES_ML) / max(1, surface)))


def tissue_fractions(
    anatomy: Anatomy,
    spacing_mm: float,
    scale: tuple[float, float, float],
    nodes: Tensor,
    widening_mm: float,
    thinning_mm: float,
    caps_mm: float = 0.0,
) -> Tensor:
    """CSF, gray and white matter of the deformed brain, (3, X, Y, Z) at `spacing_mm`, sum at most 1.

    Parameters
    ----------
    scale
        How many times larger the brain becomes along left-right, back-front, down-up; negative: mirrored.
    nodes
        Displacements in mm of a coarse grid over the field of view, (3, a, b, c): the person's own smooth deformation.
    widening_mm, thinning_mm
        How far the surface of the ventricles moves outwards, and the outer surface of the tissue inwards, both before
        what is behind gives way: a surface ends at widening / (1 + widening / GIVING_WAY_MM), thinning likewise.
    caps_mm
        How far from the ventricles white matter looks gray.
    """
    shape = [round(length / spacing_mm) for length in FIELD_MM]
    fine = FINE if spacing_mm > 1 else 1
    place = _grid([fine * n for n in shape], spacing_mm / fine) / torch.tensor(scale)
    own = F.interpolate(nodes[None], size=place.shape[:3], mode="trilinear", align_corners=True)[0]
    place = place + own.movedim(0, -1) + anatomy.middle
    ageing = widening_mm * _sample(anatomy.widening, place) + thinning_mm * _sample(anatomy.thinning, place)
    place = place - ageing.movedim(0, -1)
    sampled = _sample(anatomy.tissues, place)
    if caps_mm > 0:
        sampled = _with_caps(sampled, _sample(anatomy.widening, place), caps_mm)
    return F.avg_pool3d(sampled, fine)


def _with_caps(tissues: Tensor, widening: Tensor, caps_mm: float) -> Tensor:
    """White matter up to so far from the ventricles is partly gray; how far it is, the fading of `widening` tells."""
    near = widening.norm(dim=0)
    distance = GIVING_WAY_MM * (1 - near)
    gray = CAP_SHARE * tissues[2] * ((caps_mm - distance) / CAP_RIM_MM).clamp(0, 1) * (near > 0)
    return tissues + torch.stack([torch.zeros_like(gray), gray, -gray])


def _sample(volumes: Tensor, place: Tensor) -> Tensor:
    """Values (C, x, y, z) of volumes (C, X, Y, Z) at voxels (x, y, z, 3), linear, 0 beyond."""
    size = torch.tensor(volumes.shape[1:]) - 1
    relative = (2 * place / size - 1).flip(-1)
    return F.grid_sample(volumes[None], relative[None], align_corners=True)[0]


def _grid(shape: list[int], spacing_mm: float) -> Tensor:
    """Positions in mm around the middle of a field, (X, Y, Z, 3)."""
    axes = [(torch.arange(n) - (n - 1) / 2) * spacing_mm for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)


def _distance(region: np.ndarray) -> np.ndarray:
    """Distance in mm to the region's border from inside it, 0 outside, (X, Y, Z)."""
    return np.maximum(ndimage.distance_transform_edt(region).astype(np.float32) - 0.5, 0)


def _field(distance: np.ndarray, reach_mm: float) -> np.ndarray:
    """Unit vectors along which a signed distance grows, fading linearly until `reach_mm`, (3, X, Y, Z)."""
    slope = np.stack(np.gradient(ndimage.gaussian_filter(distance, 1.0)))
    slope /= np.maximum(np.linalg.norm(slope, axis=0), 1e-3)
    return slope * np.clip(1 - np.maximum(distance, 0) / reach_mm, 0, None)
