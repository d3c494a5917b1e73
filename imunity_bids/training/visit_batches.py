"""Batches for one axis: persons on several scanners, every two of them a scan to harmonize and a reference."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from imunity_bids.image.white_stripe import WHITE_MATTER
from imunity_bids.models.card import AXES
from imunity_bids.models.imunity import CODE_STEP, DARKEST, RIM, box_places, slice_places
from imunity_bids.simulation.visit_volumes import CSF, DEEP, MIXED, SHAPE, Coarse, Visits, target_levels

SCANNERS = 4  # of a batch; a group of persons is scanned on each
CODE_SLICES = 6  # of a volume, that the contrast encoder sees
CURVE_VOXELS = 1000  # of a volume, at which the curve for the whole brain is judged
LEVEL_VOXELS = 1000  # of white matter alone, that tell its level
PURE_VOXELS = 100  # and of each of its tissues, well inside of it
SLICE_PAIRS, PAIR_SLICES = 6, 2  # that the error maps learn from, and slices of each


class Batch(NamedTuple):
    """V volumes on SCANNERS scanners; P pairs of scan and reference of other persons; B slices of some of the pairs."""

    code_slices: Tensor  # (V, S, h, w)
    code_places: Tensor  # (V, S, 3, h, w)
    quantiles: Tensor  # (V, Q)
    source: Tensor  # number of the volume to harmonize, (P,)
    reference: Tensor  # share that each volume has in its reference, (P, V)
    values: Tensor  # some voxels of each volume, and after them some well inside each tissue, (V, N + 3 M)
    wanted: Tensor  # what those of `source` would be on the scanner of the reference, (P, N + 3 M)
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
        self.inside = [_inside(person, tissue) for tissue in range(MIXED)]
        white = np.flatnonzero(person.white)
        self.white = white[:: max(len(white) // LEVEL_VOXELS, 1)]
        self.first, self.last = int(slices.min()), int(slices.max())
        self.place = box_places(where.min(axis=0), where.max(axis=0), SHAPE)

    def voxels(self, number: int) -> np.ndarray:
        """Which of the person's voxels lie in a slice."""
        return self.order[self.start[number] : self.start[number + 1]]

    def some_voxels(self, rng: np.random.Generator) -> np.ndarray:
        """Which are looked at: N anywhere, then M well inside of each tissue."""
        everywhere = rng.integers(0, len(self.order), CURVE_VOXELS)
        return np.concatenate([everywhere, *(rng.choice(where, PURE_VOXELS) for where in self.inside)])

    def image(self, values: np.ndarray, number: int) -> Tensor:
        """Slice (H, W) with these values at its `voxels`."""
        image = np.zeros(self.shape[0] * self.shape[1], np.float32)
        image[self.pixel[self.start[number] : self.start[number + 1]]] = values
        return torch.from_numpy(image).view(self.shape)

    def places(self, number: int) -> Tensor:
        """(3, H, W)."""
        return slice_places(self.place, self.axis, number)

    def truth(self, voxels: np.ndarray, levels: np.ndarray, resolution: int, rim: np.ndarray) -> np.ndarray:
        """The person at some voxels without noise and uneven fields, tissues being at `levels` (3) to each other, and
        the median of white matter alone where white stripe puts it; the `rim` (2) of the mask stays what it is."""
        white, image = (self.person.image(levels, resolution, rim, where) for where in (self.white, voxels))
        return (image * (WHITE_MATTER / np.median(white))).clip(DARKEST, 1)


def _inside(person: Coarse, tissue: int) -> np.ndarray:
    """Numbers of a person's voxels well inside a tissue (CSF: of ventricles, since masks differ in how much of the
    outer CSF they hold, and beside it), or else of those where it is the largest part, or of all."""
    deep = (person.depth > DEEP) | (tissue != CSF)
    parts = ((person.pure == tissue) & deep, person.tissue == tissue, np.ones(len(person.tissue), bool))
    return np.flatnonzero(next(part for part in parts if part.any()))


class VisitBatches:
    """Draws batches of simulated visits for an axis."""

    def __init__(self, people: list[Coarse], visits: Visits, axis: str):
        self.visits = visits
        self.stacks = [Stack(person, axis) for person in people]
        self.shape = self.stacks[0].shape  # of a slice

    def batch(self, g: torch.Generator) -> Batch:
        """Scanners, slices and voxels are drawn anew."""
        visits = self.visits
        scanners = torch.randperm(len(visits.person) // visits.group, generator=g)[:SCANNERS]
        chosen = (visits.group * scanners[:, None] + torch.arange(visits.group)).flatten()
        persons = visits.person[chosen]
        rng = np.random.default_rng(int(torch.randint(2**62, (1,), generator=g)))
        scans = [visits.scan(int(number)) for number in chosen]
        stacks = [self.stacks[int(number)] for number in persons]
        seen = [code_slices(stack, scan, rng) for stack, scan in zip(stacks, scans, strict=True)]

        source = torch.arange(len(chosen)).repeat_interleave(len(scanners))
        target = (visits.group * torch.arange(len(scanners))).repeat(len(chosen))  # its first volume
        reference = draw_references(persons, source, target, visits.group, g)
        levels = target_levels(visits, chosen[source], chosen[target]).numpy()
        resolution = visits.resolution[chosen[target]].tolist()
        rim = visits.rim[chosen]
        voxels = [stack.some_voxels(rng) for stack in stacks]
        values = torch.from_numpy(np.stack([scan[at] for scan, at in zip(scans, voxels, strict=True)])).float()
        wanted = [
            stacks[who].truth(voxels[who], levels[pair], resolution[pair], rim[who])
            for pair, who in enumerate(source.tolist())
        ]

        pairs = torch.randperm(len(source), generator=g)[:SLICE_PAIRS].repeat_interleave(PAIR_SLICES)
        images, places, truths = [], [], []
        for pair in pairs.tolist():
            who = int(source[pair])
            stack = stacks[who]
            number, image, place = draw_slice(stack, scans[who], rng)
            truth = stack.truth(stack.voxels(number), levels[pair], resolution[pair], rim[who])
            images.append(image)
            truths.append(stack.image(truth, number))
            places.append(place)
        return Batch(
            code_slices=torch.stack([images for images, _ in seen]),
            code_places=torch.stack([places for _, places in seen]),
            quantiles=visits.quantiles[chosen],
            source=source,
            reference=reference,
            values=values,
            wanted=torch.from_numpy(np.stack(wanted)),
            pair=pairs,
            image=torch.stack(images)[:, None],
            places=torch.stack(places),
            truth=torch.stack(truths)[:, None],
        )


def draw_references(persons: Tensor, source: Tensor, target: Tensor, group: int, g: torch.Generator) -> Tensor:
    """For P pairs some of a scanner's `group` volumes, none of the source's person: their shares, (P, V).

    How many is drawn, too: one scan may be the reference, or the mean of a site. One person, who is alone, is his or
    her own reference.

    Parameters
    ----------
    persons
        Number of the person of each volume, (V,).
    source, target
        Number of the volume to harmonize, and of the first of the target scanner's volumes, (P,).
    """
    volume = torch.arange(len(persons))
    there = (volume >= target[:, None]) & (volume < target[:, None] + group)
    others = there & (persons != persons[source][:, None])
    others = torch.where(others.any(dim=1, keepdim=True), others, there & (volume != source[:, None]))
    order = torch.where(others, torch.rand(others.shape, generator=g), torch.inf).argsort(dim=1).argsort(dim=1)
    most = others.sum(dim=1)
    count = (torch.rand(len(source), generator=g) * most).long() + 1
    return (order < count[:, None]) / count[:, None]


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
