from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from imunity_bids.reports import figures


def decoded(uri: str) -> np.ndarray:
    kind, _, data = uri.partition(",")
    assert kind in ("data:image/jpeg;base64", "data:image/png;base64")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"), dtype=float)


def test_a_mosaic_shows_slices_of_three_axes_inside_the_box(ball: np.ndarray) -> None:
    box = figures.mask_box(ball)
    picture = decoded(figures.mosaic(ball.astype(np.float32), box, (1, 1, 1), limits=(0, 1)))
    gray = picture.mean(axis=2)
    # 18 discs of a ball in a square box: π/4 of the middle ones at most, less of the outer ones, and a margin
    assert 0.25 < (gray > 128).mean() < 0.5
    rows = np.array_split(gray, 3)
    assert all((row > 128).mean() > 0.25 for row in rows)


def test_proportions_follow_the_size_of_voxels(ball: np.ndarray) -> None:
    """Slices 3 mm thick are drawn three times as high as wide ones, not squashed."""
    box = figures.mask_box(ball)
    flat = decoded(figures.mosaic(ball * 1.0, box, (1, 1, 1), limits=(0, 1))).shape
    tall = decoded(figures.mosaic(ball * 1.0, box, (1, 1, 3), limits=(0, 1))).shape
    assert flat[1] == tall[1]
    # heights in units of the largest extent: (1 + 1 + 1) / 1 against (3 + 3 + 1) / 3
    assert tall[0] / flat[0] == pytest.approx((7 / 3) / 3, rel=0.02)


def test_the_outline_of_the_mask_is_drawn(ball: np.ndarray) -> None:
    box = figures.mask_box(ball, margin=8)
    dark = np.zeros(ball.shape)
    plain, outlined = (decoded(figures.mosaic(dark, box, (1, 1, 1), c, limits=(0, 1))) for c in (None, ball))
    assert plain.max() < 30
    red = (outlined[..., 0] > 120) & (outlined[..., 2] < 120)
    assert 0.001 < red.mean() < 0.05  # lines, not areas


def test_scans_are_drawn_in_a_row_each(ball: np.ndarray) -> None:
    box = figures.mask_box(ball)
    picture = decoded(figures.side_by_side({"first": ball * 1.0, "second": ball * 0.0}, box, (0, 1)))
    upper, lower = np.array_split(picture.mean(axis=2), 2)
    # discs of a ball of radius 20 in a box of 48: π (20² - z²) / 48² at z of ±18, ±11 and ±4; of the dark one its name
    assert (upper > 128).mean() == pytest.approx(0.335, abs=0.03)
    assert 0 < (lower > 128).mean() < 0.02


def test_a_colour_bar_has_a_label(ball: np.ndarray) -> None:
    box = figures.mask_box(ball)
    bare, labelled = (
        decoded(figures.mosaic(ball * 0.05, box, (1, 1, 1), limits=(0, 0.1), cmap="magma", bar=bar))
        for bar in (None, "uncertainty")
    )
    assert (bare[:, -60:] != labelled[:, -60:]).mean() > 0.02


def test_what_is_empty_is_drawn_all_the_same() -> None:
    empty = np.zeros((12, 12, 12))
    assert decoded(figures.mosaic(empty, figures.mask_box(empty > 0), (1, 1, 1))).max() < 30


def test_a_density_sums_to_one_and_peaks_where_the_values_are(rng: np.random.Generator) -> None:
    x, y = figures.density(rng.normal(0.6, 0.05, 50_000), (0, 1))
    assert (y * np.diff(x).mean()).sum() == pytest.approx(1, abs=0.01)
    assert x[y.argmax()] == pytest.approx(0.6, abs=0.02)
    quantiles = np.quantile(rng.normal(0.6, 0.05, 50_000), np.linspace(0, 1, 101))
    x, z = figures.density_of_quantiles(quantiles, (0, 1))
    assert np.abs(y - z).max() < 0.12 * y.max()  # 101 quantiles give steps of a hundredth


def test_the_box_keeps_its_margin_inside_the_volume() -> None:
    mask = np.zeros((20, 30, 40), bool)
    mask[2:5, 10:20, 38:40] = True
    assert figures.mask_box(mask, 4) == (slice(0, 9), slice(6, 24), slice(34, 40))
    assert figures.mask_box(np.zeros((5, 6, 7), bool)) == (slice(0, 5), slice(0, 6), slice(0, 7))


def test_histograms_draw_every_curve_once(rng: np.random.Generator) -> None:
    curve = figures.density(rng.uniform(0.2, 0.8, 10_000), (0, 1))
    one = decoded(figures.histograms({"raw": curve, "harmonized": curve}))
    two = decoded(figures.histograms({"raw": curve, "harmonized": curve, "reference": curve}))
    assert one.shape == two.shape
    assert (one != two).any()
