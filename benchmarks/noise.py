"""Filters that bring noise down to a wanted level: error, edges, spots, tissue levels, seconds.

python benchmarks/noise.py LABEL_MAPS [--persons 2] [--filters skimage ants tv]

Persons from label maps have no texture of their own, so that every change for the better or worse shows. White matter
is at 0.7; the two contrasts are a steep and a flat one. Edges and spots are put where the brain is even. Timed alone,
with the threads that ITK and OpenMP are given.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage

from imunity_bids.harmonize.noise import match_noise, non_local_means, white_noise
from imunity_bids.simulation.cohort import make_cohort

CONTRASTS = {"steep": (0.20, 0.45, 0.70), "flat": (0.35, 0.60, 0.70)}  # CSF, gray, white
NOISES = (0.01, 0.02, 0.04, 0.06)
WANTED = (0.01, 0.02)
SPOT_MM, SPOT_HEIGHT, SPOTS = 2.0, 0.25, 60  # full width at half maximum, height over white matter, number
GRIDS = ((1.0, 1), (1.33, 1), (1.33, 3), (0.87, 3))  # mm, order of the interpolation to 1 mm


def ants_means(brain: np.ndarray, mask: np.ndarray, noise: float) -> np.ndarray:
    """Rician non-local means of antspyx (Manjón 2010), which estimates the noise by itself."""
    import ants

    del noise
    inside = ants.from_numpy(mask.astype(np.float32))
    found = ants.denoise_image(ants.from_numpy(brain), inside, p=1, r=1, noise_model="Rician")
    return np.where(mask, found.numpy(), brain).astype(np.float32)


def total_variation(brain: np.ndarray, mask: np.ndarray, noise: float) -> np.ndarray:
    """The simple alternative: Chambolle 2004."""
    from skimage.restoration import denoise_tv_chambolle

    del mask
    return denoise_tv_chambolle(brain, weight=1.2 * noise, max_num_iter=30).astype(np.float32)


FILTERS: dict[str, Callable] = {"skimage": non_local_means, "ants": ants_means, "tv": total_variation}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("maps", type=Path)
    parser.add_argument("--persons", type=int, default=2)
    parser.add_argument("--filters", nargs="+", choices=list(FILTERS), default=list(FILTERS))
    options = parser.parse_args()
    people = [member.fractions.float().numpy() / 255 for member in make_cohort(options.maps, options.persons, 1.0, 3)]
    print(pd.DataFrame(_estimates(people[0])).round(4).to_string(index=False), flush=True)
    rows = []
    for number, fractions in enumerate(people):
        for name, levels in CONTRASTS.items():
            for noise in NOISES:
                rows += _trials(number, fractions, name, levels, noise, options.filters)
        table = pd.DataFrame(rows)
        keys = ["contrast", "noise", "wanted", "filter"]
        print(table.drop(columns="person").groupby(keys).mean().round(4).to_string(), flush=True)


def _estimates(fractions: np.ndarray) -> list[dict[str, float]]:
    """White noise on several grids, resampled to 1 mm: what is there, and what is estimated."""
    rng, mask = np.random.default_rng(0), fractions.sum(axis=0) > 0.5
    truth = np.tensordot(CONTRASTS["flat"], fractions, 1).astype(np.float32)
    rows = [{"grid_mm": 1.0, "order": 1, "noise": 0.0, "estimate": white_noise(truth, mask)}]
    for grid, order in GRIDS:
        for level in (0.01, 0.03, 0.06):
            coarse = level * rng.standard_normal([round(n / grid) for n in mask.shape])
            noise = ndimage.zoom(coarse, np.divide(mask.shape, coarse.shape), order=order)
            found = white_noise((truth + noise).astype(np.float32), mask)
            rows.append({"grid_mm": grid, "order": order, "noise": noise.std(), "estimate": found})
    return rows


def _trials(
    person: int, fractions: np.ndarray, contrast: str, levels: tuple[float, ...], noise: float, filters: list[str]
) -> list[dict[str, object]]:
    rng, mask = np.random.default_rng([person, 7]), fractions.sum(axis=0) > 0.5
    plain = np.tensordot(levels, fractions, 1).astype(np.float32) * mask
    truth, places = _with_spots(plain, fractions, mask, rng)
    channels = noise * rng.standard_normal((2, *mask.shape))
    noisy = (np.hypot(truth + channels[0], channels[1]) * mask).astype(np.float32)  # Rician
    rows = []
    for name in filters:
        for wanted in (w for w in WANTED if w < noise):
            start = time.perf_counter()
            result, done = match_noise(noisy, mask, wanted, FILTERS[name])
            seconds = time.perf_counter() - start
            change = result - noisy
            row = {"person": person, "contrast": contrast, "noise": noise, "wanted": wanted, "filter": name}
            row |= {"before": done.before, "after": done.after, "strength": done.strength}
            row |= {f"rmse_{k}": np.sqrt(np.mean((v - truth)[mask] ** 2)) for k, v in (("0", noisy), ("1", result))}
            row["edge"] = _edge_width(result, fractions, levels) / _edge_width(noisy, fractions, levels)
            height = [np.mean([(v - plain)[place] for place in places]) for v in (noisy, result)]
            row["spot"] = height[1] / height[0]
            tissues = [np.abs(change[share > 0.95].mean()) for share in fractions]
            rows.append({**row, "level_shift": max(tissues), "seconds": seconds})
    return rows


def _with_spots(
    plain: np.ndarray, fractions: np.ndarray, mask: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, list[tuple[int, ...]]]:
    """Bright Gaussian spots in white matter, 6 mm from its border, and the voxels of their tops."""
    deep = np.argwhere(ndimage.binary_erosion((fractions[2] > 0.95) & mask, iterations=4))
    places = [tuple(place) for place in rng.choice(deep, SPOTS, replace=False)]
    impulses = np.zeros(mask.shape, np.float32)
    for place in places:
        impulses[place] = 1
    sigma = SPOT_MM / 2.3548
    spots = ndimage.gaussian_filter(impulses, sigma)
    alone = np.zeros((15, 15, 15), np.float32)
    alone[7, 7, 7] = 1
    return plain + SPOT_HEIGHT * spots / ndimage.gaussian_filter(alone, sigma).max(), places


def _edge_width(volume: np.ndarray, fractions: np.ndarray, levels: tuple[float, ...]) -> float:
    """Between 10 and 90 % of the step from gray to white matter, in mm: mean profile over the border's distance."""
    white = fractions[2] > 0.5
    outwards = ndimage.distance_transform_edt(~white) - ndimage.distance_transform_edt(white)
    pure = fractions[0] < 0.02
    steps = np.arange(-4.25, 4.5, 0.5)
    place = np.digitize(outwards, steps)
    profile = [np.median(volume[(place == n) & pure]) for n in range(1, len(steps)) if ((place == n) & pure).any()]
    at = [outwards[(place == n) & pure].mean() for n in range(1, len(steps)) if ((place == n) & pure).any()]
    share = (np.array(profile) - levels[1]) / (levels[2] - levels[1])
    order = np.argsort(share)
    low, high = np.interp([0.1, 0.9], share[order], np.array(at)[order])
    return float(low - high)


if __name__ == "__main__":
    main()
