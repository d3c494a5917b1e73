"""Batches for one axis: persons on several scanners, every two of them a scan to harmonize and a reference."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from imunity_bids.models.card import AXES
from imunity_bids.models.imunity import CODE_STEP, DARKEST, RIM, box_places, slice_places
from imunity_bids.simulation.visit_volumes import SHAPE, Coarse, Visits, target_levels

SCANNERS = 5  # of a batch; two persons are scanned on each
CODE_SLICES = 6  # of a volume, that the contrast encoder sees
CURVE_VOXELS = 1000  # of a volume, at which the curve for the whole brain is judged
LOCAL_PAIRS, PAIR_SLICES = 6, 2  # that the local curves learn from, and slices of each


class Batch(NamedTuple):
    """V volumes on SCANNERS scanners; P pairs of scan and reference of two persons; B slices of some of the pairs."""

    code_slices: Tensor  # (V, S, h, w)
    code_places: Tensor  # (V, S, 3, h, w)
    quantiles: Tensor  # (V, Q)
    source: Tensor  # number of the volume to harmonize, (P,)
    target: Tensor  # number of its reference, (P,)
    values: Tensor  # some voxels of each volume, (V, N)
    wanted: Tensor  # what those of `source` would be on the scanner of `target`, (P, N)
    pair: Tensor  # number of the pair that a slice belongs to, (B,)
    image: Tensor  # slices to harmonize, (B, 1, H, W)
    places: Tensor  # (B, 3, H, W)
    truth: Tensor  # (B, 1, H, W)


class Stack:
    """A person's voxels in the order of the slices of an axis."""

    def __init__(self, person: Coarse, axis: str):
        self.person, self.axis = person, AXES.index(axis)
        where = person.where.astype(np.int64)
        self.shape = tuple(size for other, size in enumerate(SHAPE) if other != self.axis)
        slices = where[:, self.axis]
        self.order = np.argsort(slices, kind="stable")
        self.start = np.searchsorted(slices[self.order], np.arange(SHAPE[self.axis] + 1))
        plane = np.delete(where, self.axis, axis=1)[self.order]
        self.pixel = np.ravel_multi_index(tuple(plane.T), self.shape)
        self.first, self.last = int(slices.min()), int(slices.max())
        self.place = box_places(where.min(axis=0), where.max(axis=0), SHAPE)

    def voxels(self, number: int) -> np.ndarray:
        """Which of the person's voxels lie in a slice."""
        return self.order[self.start[number] : self.start[number + 1]]

    def image(self, values: np.ndarray, number: int) -> Tensor:
        """Slice (H, W) with these values at its `voxels`."""
        image = np.zeros(self.shape[0] * self.shape[1], np.float32)
        image[self.pixel[self.start[number] : self.start[number + 1]]] = values
        return torch.from_numpy(image).view(self.shape)

    def places(self, number: int) -> Tensor:
        """(3, H, W)."""
        return slice_places(self.place, self.axis, number)

    def truth(self, voxels: np.ndarray, levels: np.ndarray, resolution: int) -> np.ndarray:
        """The person at some voxels without noise and uneven fields, tissues being at `levels` (3)."""
        return (levels @ self.person.parts[resolution][:, voxels].astype(np.float32)).clip(DARKEST, 1)


class VisitBatches:
    """Draws batches of simulated visits for an axis."""

    def __init__(self, people: list[Coarse], visits: Visits, axis: str):
        self.visits = visits
        self.stacks = [Stack(person, axis) for person in people]
        self.shape = self.stacks[0].shape  # of a slice

    def batch(self, g: torch.Generator) -> Batch:
        """Scanners, slices and voxels are drawn anew."""
        visits = self.visits
        scanners = torch.randperm(len(visits.person) // 2, generator=g)[:SCANNERS]
        chosen = torch.stack([2 * scanners, 2 * scanners + 1], dim=1).flatten()
        persons = visits.person[chosen]
        rng = np.random.default_rng(int(torch.randint(2**62, (1,), generator=g)))
        scans = [visits.scan(int(number)) for number in chosen]
        stacks = [self.stacks[int(number)] for number in persons]
        seen = [code_slices(stack, scan, rng) for stack, scan in zip(stacks, scans, strict=True)]

        source, target = torch.meshgrid(*[torch.arange(len(chosen))] * 2, indexing="ij")
        two_persons = persons[source] != persons[target]
        if not two_persons.any():  # one person only, who is his or her own reference
            two_persons = source != target
        source, target = source[two_persons], target[two_persons]
        levels = target_levels(visits, chosen[source], chosen[target]).numpy()
        resolution = visits.resolution[chosen[target]].tolist()
        voxels = [rng.integers(0, len(scan), CURVE_VOXELS) for scan in scans]
        values = torch.from_numpy(np.stack([scan[at] for scan, at in zip(scans, voxels, strict=True)])).float()
        wanted = [
            stacks[who].truth(voxels[who], levels[pair], resolution[pair]) for pair, who in enumerate(source.tolist())
        ]

        pairs = torch.randperm(len(source), generator=g)[:LOCAL_PAIRS].repeat_interleave(PAIR_SLICES)
        images, places, truths = [], [], []
        for pair in pairs.tolist():
            who = int(source[pair])
            stack = stacks[who]
            number, image, place = draw_slice(stack, scans[who], rng)
            truth = stack.truth(stack.voxels(number), levels[pair], resolution[pair])
            images.append(image)
            truths.append(stack.image(truth, number))
            places.append(place)
        return Batch(
            code_slices=torch.stack([images for images, _ in seen]),
            code_places=torch.stack([places for _, places in seen]),
            quantiles=visits.quantiles[chosen],
            source=source,
            target=target,
            values=values,
            wanted=torch.from_numpy(np.stack(wanted)),
            pair=pairs,
            image=torch.stack(images)[:, None],
            places=torch.stack(places),
            truth=torch.stack(truths)[:, None],
        )


def draw_slice(stack: Stack, scan: np.ndarray, rng: np.random.Generator) -> tuple[int, Tensor, Tensor]:
    """A slice of a brain: its number, its image (H, W), and where its pixels are, (3, H, W)."""
    number = int(rng.integers(stack.first + RIM, stack.last + 1 - RIM))
    return number, stack.image(scan[stack.voxels(number)], number), stack.places(number)


def code_slices(stack: Stack, scan: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Slices (S, h, w) one from each part of the brain, and where their pixels are, (S, 3, h, w)."""
    edges = np.linspace(stack.first + RIM, stack.last + 1 - RIM, CODE_SLICES + 1)
    numbers = rng.uniform(edges[:-1], edges[1:]).astype(int)
    row, column = rng.integers(0, CODE_STEP, 2)
    pixels = (..., slice(row, None, CODE_STEP), slice(column, None, CODE_STEP))
    images = torch.stack([stack.image(scan[stack.voxels(number)], number) for number in numbers.tolist()])
    places = torch.stack([stack.places(number) for number in numbers.tolist()])
    return images[pixels], places[pixels]
