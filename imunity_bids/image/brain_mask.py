"""Brain masks (brain, inner CSF, sulci and a rim of 2 mm) and how far they can be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage

from imunity_bids.errors import DataUnusable
from imunity_bids.image.conform import EMPTY_SHARE
from imunity_bids.image.resample import isotropic_grid, resample
from imunity_bids.models.brain import FIELD, NECK_MM, SPACING_MM, BrainNet, normalise
from imunity_bids.models.card import BRAIN_NETWORK, read_card
from imunity_bids.models.device import moved
from imunity_bids.models.weights import load_module

THRESHOLD = 0.5  # on simulated heads, 0.4 to 0.7 differ by less than 0.005 in Dice


@dataclass(frozen=True)
class BrainMask:
    """A mask on the grid of its image, and what a gate needs to know of how it came about."""

    mask: np.ndarray  # bool
    volume_ml: float
    border_share: float  # of the mask's surface, on the edge of the field of view
    stray_share: float  # volume outside the largest piece before it was cleaned, relative to that piece
    unsure_share: float  # volume with a probability of 0.2 to 0.8, relative to the mask
    method: str

    def measures(self) -> dict[str, float]:
        """By the names of the quality measures."""
        return {
            "brain_volume_ml": self.volume_ml,
            "mask_border_share": self.border_share,
            "mask_stray_share": self.stray_share,
            "mask_unsure_share": self.unsure_share,
        }


@lru_cache(maxsize=2)
def load_network(folder: Path = BRAIN_NETWORK, device: str = "cpu") -> BrainNet:
    """The network of a model folder (`card.json`, `brain.safetensors`), once per process."""
    card = read_card(folder / "card.json")
    network = BrainNet(tuple(card["architecture"]["widths"]))
    return load_module(network, folder / "brain.safetensors", card["sha256"]).to(device)


def brain_probability(image: nib.Nifti1Image, network: BrainNet) -> tuple[np.ndarray, np.ndarray]:
    """Probability of "brain" on a 2 mm RAS grid, and that grid's affine.

    `image` is conformed (RAS, finite); its contrast, resolution and field of view are free. The network looks twice: at
    everything, to find the brain, and then at a field as large as those it was trained on. It normalises over the whole
    field, so that mere air around a head would change the mask (by 11 % of its volume with 70 mm on all sides). The
    second look is the mean over the field and its mirror image.
    """
    shape, affine = isotropic_grid(image.shape, image.affine, SPACING_MM, network.multiple)
    data = np.asarray(image.dataobj)
    finest = min(image.header.get_zooms()[:3])
    coarse = resample(data, image.affine, shape, affine, supersample=2 if finest < 0.8 * SPACING_MM else 1)
    first = _apply(network, coarse)
    if not (first > THRESHOLD).any():
        return first, affine
    middle = np.argwhere(largest_piece(first > THRESHOLD)[0]).mean(axis=0)
    corner = np.rint(middle - (np.array(FIELD) - 1) / 2 - [0, 0, NECK_MM / SPACING_MM]).astype(int)
    inside, window = np.zeros_like(first), np.zeros(FIELD, np.float32)
    there = tuple(slice(max(0, c), max(0, c + n)) for c, n in zip(corner, FIELD, strict=True))
    here = tuple(slice(max(0, -c), max(0, -c) + size) for c, size in zip(corner, coarse[there].shape, strict=True))
    window[here] = coarse[there]
    mirrored = np.ascontiguousarray(window[::-1])
    both = (_apply(network, window) + _apply(network, mirrored)[::-1]) / 2
    inside[there] = both[here]
    return inside, affine


@torch.inference_mode()
def _apply(network: BrainNet, volume: np.ndarray) -> np.ndarray:
    """Probability for every voxel of a 2 mm volume."""
    device = next(network.parameters()).device
    logits = network(moved(normalise(torch.from_numpy(volume))[None, None], device))
    return logits[0, 0].float().sigmoid().cpu().numpy()


def network_mask(image: nib.Nifti1Image, network: BrainNet, border_mm: float = 0.0) -> BrainMask:
    """Mask by the network: largest piece, holes filled, smooth on the grid of `image`.

    Parameters
    ----------
    border_mm
        How far outwards the mask's edge is moved; negative shrinks the mask.

    Raises
    ------
    DataUnusable
        No brain was found.
    """
    probability, affine = brain_probability(image, network)
    inside = probability > THRESHOLD
    if not inside.any():
        raise DataUnusable("no brain was found in this image")
    main, stray = largest_piece(inside)
    voxel_ml = SPACING_MM**3 / 1000
    unsure = ((probability > 0.2) & (probability < 0.8)).sum() / main.sum()
    level = np.where(ndimage.binary_dilation(main), probability, 0)
    level[main & ~inside] = 1  # holes
    level -= THRESHOLD
    if border_mm:
        level = signed_distance(main, SPACING_MM) + border_mm
    mask = resample(level, affine, image.shape, image.affine) > 0
    return _measured(mask & _inside_field(image), image, stray * voxel_ml, float(unsure), "network")


def stripped_mask(image: nib.Nifti1Image) -> BrainMask:
    """The mask of a scan that was published without its skull: what is not empty, closed and filled."""
    filled = ndimage.binary_fill_holes(ndimage.binary_closing(np.asarray(image.dataobj) > 0, iterations=2))
    main, stray = largest_piece(filled)
    voxel_ml = float(np.prod(image.header.get_zooms()[:3])) / 1000
    return _measured(main, image, stray * voxel_ml, 0.0, "none")


def known_mask(mask: np.ndarray, image: nib.Nifti1Image) -> BrainMask:
    """A mask (bool, on the image's grid) that somebody made before: measured, and left as it is."""
    _, stray = largest_piece(mask)
    voxel_ml = float(np.prod(image.header.get_zooms()[:3])) / 1000
    return _measured(mask, image, stray * voxel_ml, 0.0, "given")


def is_stripped(image: nib.Nifti1Image, brain: np.ndarray) -> bool:
    """True where the skull was removed before: nothing but emptiness around the brain.

    Parameters
    ----------
    brain
        Mask by the network. A head keeps skin and skull around it, defaced or not, adult or child; a stripped scan has
        next to nothing beyond 6 mm from it.
    """
    data = np.asarray(image.dataobj)
    if (data == 0).mean() < EMPTY_SHARE:
        return False
    coarse = tuple(slice(None, None, max(1, round(2.0 / zoom))) for zoom in image.header.get_zooms()[:3])
    near = ndimage.binary_dilation(brain[coarse], iterations=3)
    return bool(((data[coarse] > 0) & ~near).sum() < 0.03 * brain[coarse].sum())


def largest_piece(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """The largest connected piece with its holes filled, and the number of voxels in all others."""
    pieces, _ = ndimage.label(mask)
    sizes = np.bincount(pieces.ravel())[1:]
    return ndimage.binary_fill_holes(pieces == sizes.argmax() + 1), int(sizes.sum() - sizes.max())


def signed_distance(mask: np.ndarray, spacing_mm: float) -> np.ndarray:
    """mm to the surface of the mask, positive inside; the surface runs halfway between the voxels beside it."""
    inside = ndimage.distance_transform_edt(mask, sampling=spacing_mm)
    distance = inside - ndimage.distance_transform_edt(~mask, sampling=spacing_mm)
    return (distance - np.sign(distance) * spacing_mm / 2).astype(np.float32)


def measure(mask: np.ndarray, image: nib.Nifti1Image, method: str) -> BrainMask:
    """A mask that another program made, cleaned and measured like our own."""
    if not mask.any():
        raise DataUnusable(f"{method} found no brain in this image")
    main, stray = largest_piece(mask)
    voxel_ml = float(np.prod(image.header.get_zooms()[:3])) / 1000
    return _measured(main, image, stray * voxel_ml, 0.0, method)


def _inside_field(image: nib.Nifti1Image) -> np.ndarray:
    """False in planes at the ends of an axis that hold nothing at all (padding)."""
    data = np.asarray(image.dataobj)
    inside = np.ones(data.shape, bool)
    for axis in range(3):
        used = data.any(axis=tuple(a for a in range(3) if a != axis))
        inside &= np.expand_dims(used, tuple(a for a in range(3) if a != axis))
    return inside


def _measured(mask: np.ndarray, image: nib.Nifti1Image, stray_ml: float, unsure_share: float, method: str) -> BrainMask:
    if not mask.any():
        raise DataUnusable("no brain was found in this image")
    volume_ml = float(mask.sum()) * float(np.prod(image.header.get_zooms()[:3])) / 1000
    surface = int((mask & ~ndimage.binary_erosion(mask, border_value=0)).sum())
    edge = np.ones_like(mask)
    edge[1:-1, 1:-1, 1:-1] = False
    return BrainMask(
        mask=mask,
        volume_ml=volume_ml,
        border_share=float((mask & edge).sum()) / surface,
        stray_share=stray_ml / volume_ml,
        unsure_share=unsure_share,
        method=method,
    )
