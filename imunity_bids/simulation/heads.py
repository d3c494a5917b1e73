"""Simulated heads: label maps -> random shape, contrast and artefacts, with the brain mask known exactly.

SynthStrip's idea (Hoopes et al. 2022, section 2.2): a network that has seen every contrast needs none in particular.
The truth is the brain with its inner CSF and a thin rim of the outer one: all brain labels but the CSF around the brain
(24), sulci and fissures as far as a closing of 6 mm reaches, and 2 mm more, where that is still inside the skull (CSF,
dura, sinuses); down to 4 mm below the lowest point of the cerebellum (foramen magnum). All of the outer CSF would be a
worse truth: on T1w it is as dark as the bone behind it, so where it ends cannot be seen; where the cortex ends can.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from imunity_bids.models.brain import FIELD, NECK_MM, SPACING_MM, normalise

CEREBELLUM = (7, 8, 46, 47)
OUTSIDE = 500  # FreeSurfer-style numbers above this lie outside the brain
OUTER_CSF = 24
BELOW_CEREBELLUM_MM = 4
SULCI_MM = 6
RIM_MM = 2
DURA_MM = 4

# Label groups that share one mean, and the range of that mean on T1w (white matter about 0.8). What is outside the
# brain was identified on pictures of the maps: 506 eyes, 507 fat and muscle, 511 skin, 514 venous sinuses, 515 bone, …
T1W_GROUPS: tuple[tuple[tuple[int, ...], tuple[float, float]], ...] = (
    ((2, 41), (0.70, 0.90)),  # white matter
    ((3, 42), (0.42, 0.66)),  # cortex
    ((4, 5, 43, 44, 14, 15, 72), (0.05, 0.30)),  # ventricles
    ((24,), (0.03, 0.32)),  # CSF around the brain
    ((7, 46), (0.65, 0.90)),  # cerebellar white matter
    ((8, 47), (0.40, 0.66)),  # cerebellar cortex
    ((10, 49), (0.52, 0.78)),  # thalamus
    ((11, 50, 26, 58), (0.42, 0.68)),  # caudate, accumbens
    ((12, 51), (0.48, 0.72)),  # putamen
    ((13, 52), (0.58, 0.84)),  # pallidum
    ((16, 28, 60), (0.60, 0.86)),  # brain stem, ventral diencephalon
    ((17, 18, 53, 54), (0.42, 0.66)),  # hippocampus, amygdala
    ((25, 57), (0.20, 0.75)),  # lesions
    ((30, 62, 502), (0.10, 1.20)),  # vessels, with and without gadolinium
    ((85, 530), (0.45, 0.80)),  # chiasm, optic nerves
    ((136, 137, 163, 164), (0.55, 0.85)),
    ((506,), (0.08, 0.60)),  # eyes
    ((507,), (0.25, 1.20)),  # fat and muscle
    ((508,), (0.30, 0.80)),  # eye muscles
    ((509,), (0.05, 0.70)),  # nose
    ((511,), (0.20, 1.10)),  # skin
    ((512,), (0.50, 0.85)),  # cord
    ((514,), (0.08, 1.10)),  # venous sinuses, dura
    ((515,), (0.02, 0.22)),  # cortical bone
    ((516,), (0.15, 1.00)),  # marrow
)
SPLIT_GROUPS = (507, 509, 511, 515, 516)  # one label, several tissues: cut in two by a smooth random field


@dataclass(frozen=True)
class LabelMap:
    """One head, RAS: group index per voxel (uint8, 0 = air), truth mask, voxel -> mm matrix."""

    groups: Tensor
    mask: Tensor
    affine: np.ndarray
    centre_mm: np.ndarray  # of the brain


def brain_truth(labels: np.ndarray, spacing_mm: float = 1.0) -> np.ndarray:
    """Truth from a RAS label map (module docstring). Bool, same shape."""
    inside = (labels > 0) & (labels < OUTSIDE)
    lowest = np.nonzero(np.isin(labels, CEREBELLUM).any(axis=(0, 1)))[0].min()
    inside[:, :, : max(0, lowest - round(BELOW_CEREBELLUM_MM / spacing_mm))] = False
    brain = _close(inside & (labels != OUTER_CSF), SULCI_MM, spacing_mm)
    rim = ndimage.distance_transform_edt(~brain, sampling=spacing_mm) <= RIM_MM
    filled = ndimage.binary_fill_holes(rim & _close(inside, DURA_MM, spacing_mm))
    pieces, count = ndimage.label(filled)
    return pieces == np.argmax(np.bincount(pieces.ravel())[1:]) + 1 if count > 1 else filled


def _close(mask: np.ndarray, radius_mm: float, spacing_mm: float) -> np.ndarray:
    """Closing by a ball; nothing is lost at the border of the array."""
    width = round(radius_mm / spacing_mm) + 1
    reached = ndimage.distance_transform_edt(~np.pad(mask, width), sampling=spacing_mm) <= radius_mm
    closed = ndimage.distance_transform_edt(reached, sampling=spacing_mm) > radius_mm
    return closed[(slice(width, -width),) * 3] | mask


def read_label_map(path: Path) -> LabelMap:
    """Load one whole-head label map (any orientation, 1 mm) with its truth."""
    image = nib.as_closest_canonical(nib.load(path))
    labels = np.asarray(image.dataobj).astype(np.int16)
    box = ndimage.find_objects((labels > 0).astype(np.uint8))[0]
    labels = labels[box]
    corner = np.array([s.start for s in box])
    affine = image.affine @ nib.affines.from_matvec(np.eye(3), corner)
    table = np.zeros(labels.max() + 1, np.uint8)
    for index, (members, _) in enumerate(T1W_GROUPS, start=1):
        table[[m for m in members if m < len(table)]] = index
    mask = brain_truth(labels)
    centre = nib.affines.apply_affine(affine, np.argwhere(mask).mean(axis=0))
    return LabelMap(torch.from_numpy(table[labels]), torch.from_numpy(mask), affine, centre)


class HeadSimulator:
    """Random head number `seed` from one label map: the same number gives the same head.

    Parameters
    ----------
    maps
        The anatomies.
    shape
        Voxels of 2 mm of the simulated volume.
    t1w_share
        Share of the heads whose tissues keep the order of a T1w scan.
    inverted_share
        Share of the heads with that order turned round; what is left has any contrast at all.
    """

    def __init__(
        self,
        maps: list[LabelMap],
        shape: tuple[int, int, int] = FIELD,
        t1w_share: float = 0.7,
        inverted_share: float = 0.0,
    ):
        self.maps = maps
        self.shape = shape
        self.t1w_share = t1w_share
        self.inverted_share = inverted_share

    def __call__(self, seed: int, head: int | None = None) -> tuple[Tensor, Tensor]:
        """Image in [0, 1] and mask, both (1, X, Y, Z) float32; `head` names the map, or chance does."""
        g = torch.Generator().manual_seed(seed)
        head = _integer(g, 0, len(self.maps) - 1) if head is None else head
        groups, mask = self._deform(self.maps[head], g)
        image = self._paint(groups, mask, g)
        image = _acquire(image, g, seed)
        image, mask = _crop(image, mask, g)
        return normalise(image)[None], mask.float()[None]

    def _deform(self, head: LabelMap, g: torch.Generator) -> tuple[Tensor, Tensor]:
        """Affine and elastic deformation; groups (uint8) and mask on the output grid."""
        angles = torch.randn(3, generator=g) * 12
        if _chance(g, 0.25):  # tilted heads, and volumes whose header says nothing
            angles = (torch.rand(3, generator=g) - 0.5) * 80
        linear = _rotation(angles.deg2rad()) @ (torch.eye(3) + 0.04 * torch.randn(3, 3, generator=g))
        linear = linear * _uniform(g, 0.90, 1.20)
        for axis, share in enumerate((0.5, 0.04, 0.04)):
            if _chance(g, share):
                linear[axis] *= -1
        offsets = [torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in self.shape]
        grid = torch.stack(torch.meshgrid(*offsets, indexing="ij"), -1) * SPACING_MM
        shift = (torch.rand(3, generator=g) - 0.5) * torch.tensor([16.0, 20.0, 44.0])
        shift[2] -= NECK_MM  # networks fail most often at the neck: show it
        grid = (grid + shift) @ linear.T
        amplitude = _uniform(g, 0, 4)
        for cells in (4, 8):
            grid += _smooth_field(self.shape, cells, g, channels=3).movedim(0, -1) * amplitude
            amplitude /= 2.5
        to_voxel = np.linalg.inv(head.affine)
        voxel = (grid + torch.from_numpy(head.centre_mm).float()) @ torch.from_numpy(to_voxel[:3, :3]).float().T
        voxel += torch.from_numpy(to_voxel[:3, 3]).float()
        index = voxel.round_().long()
        limits = torch.tensor(head.groups.shape)
        inside = ((index >= 0) & (index < limits)).all(-1)
        flat = ((index[..., 0] * limits[1] + index[..., 1]) * limits[2] + index[..., 2]).where(inside, torch.tensor(0))
        return head.groups.flatten()[flat] * inside, head.mask.flatten()[flat] & inside

    def _means(self, g: torch.Generator) -> Tensor:
        """(2, groups) means, the second for the other tissue of mixed groups."""
        kind = torch.rand(1, generator=g).item()
        means = torch.rand(2, len(T1W_GROUPS), generator=g)
        low, high = torch.tensor([span for _, span in T1W_GROUPS]).T
        if kind < self.t1w_share:
            return low + (high - low) * means
        if kind >= 1 - self.inverted_share:
            return (1 - low - (high - low) * means).clamp(min=0)
        return means

    def _paint(self, groups: Tensor, mask: Tensor, g: torch.Generator) -> Tensor:
        """Intensities: a mean per group, a second tissue in mixed groups, texture, now and then a lesion."""
        means, seconds = self._means(g)
        air = torch.tensor([0.0 if _chance(g, 0.8) else _uniform(g, 0, 0.1)])
        image = torch.cat([air, means])[groups.long()]
        for index, (members, _) in enumerate(T1W_GROUPS, start=1):
            if members[0] in SPLIT_GROUPS and _chance(g, 0.6):
                field = _smooth_field(self.shape, _integer(g, 6, 20), g)[0]
                image = torch.where((groups == index) & (field > _uniform(g, -0.4, 0.6)), seconds[index - 1], image)
        texture = _uniform(g, 0, 0.12) * _smooth_field(self.shape, _integer(g, 20, 40), g)[0]
        image = image * (1 + texture + _uniform(g, 0, 0.08) * torch.randn(self.shape, generator=g))
        if _chance(g, 0.12):
            lesion = _smooth_field(self.shape, _integer(g, 6, 14), g)[0] > _uniform(g, 0.9, 1.4)
            image = torch.where(lesion & mask, torch.tensor(_uniform(g, 0, 1.3)), image)
        if _chance(g, 0.08):  # already stripped, with a rim of varying width
            rim = 2 * _integer(g, 0, 2) + 1
            image = image * (F.max_pool3d(mask.float()[None, None], rim, 1, rim // 2)[0, 0] > 0)
        return image.clamp_(min=0)


def _acquire(image: Tensor, g: torch.Generator, seed: int) -> Tensor:
    """What the scanner adds: smoothing, thick slices, bias field, gamma, Gibbs ringing, noise, wrap-around."""
    from monai import transforms as mt  # a training extra

    axis = _integer(g, 0, 2)
    chain = mt.Compose(
        [
            mt.RandGaussianSmooth(prob=0.9, **{f"sigma_{a}": (0.25, 0.6) for a in "xyz"}),
            mt.RandBiasField(prob=0.85, degree=3, coeff_range=(-0.25, 0.25)),
            mt.RandGibbsNoise(prob=0.08, alpha=(0.2, 0.6)),
            mt.RandAdjustContrast(prob=0.6, gamma=(0.6, 1.7)),
        ]
    ).set_random_state(seed % 2**32)
    if _chance(g, 0.15):
        image = _wrap(image, g)
    image = torch.as_tensor(chain(image[None]))[0]
    if _chance(g, 0.25):
        thick = [_uniform(g, 2.0, 6.5) if a == axis else _uniform(g, 2.0, 2.6) for a in range(3)]
        image = _reduce_resolution(image, thick)
    elif _chance(g, 0.1):
        image = _reduce_resolution(image, [_uniform(g, 2.2, 4.0)] * 3)
    noise = _uniform(g, 0, 0.10) ** 1.5 * 1.6 * image.max()
    if _chance(g, 0.5):  # Rician: magnitude of a complex signal
        real = image + noise * torch.randn(image.shape, generator=g)
        return torch.hypot(real, noise * torch.randn(image.shape, generator=g))
    empty = image == 0  # a background that was masked to zero stays so
    return (image + noise * torch.randn(image.shape, generator=g)).clamp(min=0).masked_fill(empty, 0)


def _reduce_resolution(image: Tensor, spacing_mm: list[float]) -> Tensor:
    """Average to voxels of `spacing_mm` and interpolate back."""
    small = [max(4, round(n * SPACING_MM / s)) for n, s in zip(image.shape, spacing_mm, strict=True)]
    low = F.interpolate(image[None, None], size=small, mode="area")
    return F.interpolate(low, size=image.shape, mode="trilinear")[0, 0]


def _wrap(image: Tensor, g: torch.Generator) -> Tensor:
    """Fold what lies beyond a plane near the far end of an axis onto its beginning (too small a field of view)."""
    axis = _integer(g, 0, 1)
    n = image.shape[axis]
    width = _integer(g, 3, max(4, n // 10))
    folded = image.clone()
    folded.narrow(axis, 0, width).add_(image.narrow(axis, n - width, width), alpha=_uniform(g, 0.3, 1.0))
    folded.narrow(axis, n - width, width).zero_()
    return folded


def _crop(image: Tensor, mask: Tensor, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """A random field of view (neck, sides, sometimes the top of the brain) and, often, a removed face."""
    keep = torch.ones_like(mask)
    where = mask.nonzero()
    if len(where) == 0:
        return image, mask
    low, high = where.min(0).values, where.max(0).values
    chances = ((0.15, 0.15), (0.15, 0.25), (0.45, 0.15))
    for axis in range(3):
        for side in range(2):
            if not _chance(g, chances[axis][side]):
                continue
            gap = round(_uniform(g, -6 if _chance(g, 0.25) else 0, 45) / SPACING_MM)
            n = mask.shape[axis]
            cut = (int(low[axis]) - gap, n) if side == 0 else (0, int(high[axis]) + 1 + gap)
            start, stop = max(0, cut[0]), min(n, cut[1])
            keep.narrow(axis, 0, start).zero_()
            keep.narrow(axis, stop, n - stop).zero_()
    if _chance(g, 0.45):
        keep &= _defaced(mask, where, g)
    return image * keep, mask & keep


def _defaced(mask: Tensor, where: Tensor, g: torch.Generator) -> Tensor:
    """False beyond a plane in front of and below the brain, which it never cuts; jaw and neck often stay."""
    angle = math.radians(_uniform(g, 10, 75))
    normal = torch.tensor([_uniform(g, -0.15, 0.15), math.cos(angle), -math.sin(angle)])
    farthest = (where.float() @ normal).max() + _uniform(g, 1, 20) / SPACING_MM
    x, y, z = (torch.arange(n, dtype=torch.float32) for n in mask.shape)
    kept = x[:, None, None] * normal[0] + y[:, None] * normal[1] + z * normal[2] < farthest
    if _chance(g, 0.6):  # a block was removed, not everything
        floor = int(where[:, 2].min()) + round(_uniform(g, -50, 30) / SPACING_MM)
        middle, half = float(where[:, 0].float().mean()), _uniform(g, 30, 100) / SPACING_MM
        kept |= ((z < floor) | ((x - middle).abs() > half)[:, None, None]).expand_as(kept)
    return kept


def _smooth_field(shape: tuple[int, ...], cells: int, g: torch.Generator, channels: int = 1) -> Tensor:
    """(channels, *shape) Gaussian noise at `cells` nodes per axis, interpolated; about unit variance at the nodes."""
    nodes = torch.randn(1, channels, cells, cells, cells, generator=g)
    return F.interpolate(nodes, size=tuple(shape), mode="trilinear", align_corners=True)[0]


def _rotation(angles: Tensor) -> Tensor:
    """3×3 rotation about x, y, z by `angles` (radians)."""
    (cx, cy, cz), (sx, sy, sz) = angles.cos().tolist(), angles.sin().tolist()
    about_x = torch.tensor([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = torch.tensor([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = torch.tensor([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1.0]])
    return about_x @ about_y @ about_z


def _uniform(g: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * torch.rand(1, generator=g).item()


def _integer(g: torch.Generator, low: int, high: int) -> int:
    """Between `low` and `high`, both included."""
    return int(torch.randint(low, high + 1, (1,), generator=g))


def _chance(g: torch.Generator, share: float) -> bool:
    return torch.rand(1, generator=g).item() < share
