from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from imunity_bids.harmonize import curves, inference
from imunity_bids.harmonize.inference import Harmonized, contrast_codes, harmonize, intensity_quantiles
from imunity_bids.harmonize.references import load_reference, make_reference, save_reference
from imunity_bids.harmonize.slices import Compute, from_slices, median_of_three, to_slices
from imunity_bids.harmonize.smoothness import smoothness
from imunity_bids.models.bundle import Bundle, load_bundle
from imunity_bids.models.card import AXES
from imunity_bids.models.imunity import TYPICAL_ERROR, one_scan
from imunity_bids.models.paper import PaperArchitecture, PaperGenerator
from imunity_bids.models.quantiles import match
from imunity_bids.qc.fidelity import fidelity


@pytest.fixture
def bundle(bundle_folder: Path) -> Bundle:
    return load_bundle(bundle_folder)


@pytest.fixture
def brain(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """An ellipsoid in a volume whose sides are no multiple of 16."""
    grid = np.indices((37, 45, 41)) - np.array([18, 22, 20])[:, None, None, None]
    mask = (grid[0] / 15) ** 2 + (grid[1] / 19) ** 2 + (grid[2] / 17) ** 2 < 1
    return (rng.uniform(0.2, 0.8, mask.shape) * mask).astype(np.float32), mask


@pytest.mark.parametrize("axis", AXES)
def test_slices_come_back(brain: tuple[np.ndarray, np.ndarray], axis: str) -> None:
    slices = to_slices(brain[0], axis)
    assert len(slices) == brain[0].shape[AXES.index(axis)]
    np.testing.assert_array_equal(from_slices(slices, axis), brain[0])


def test_an_untrained_bundle_matches_histograms_and_keeps_grid_and_background(
    bundle: Bundle, brain: tuple[np.ndarray, np.ndarray]
) -> None:
    volume, mask = brain
    reference = make_reference("dark", "file", "", [(volume**1.4 * mask, mask)], bundle, 5)
    made = harmonize(volume, mask, bundle, reference, Compute(batch=5))
    for part in (made.image, made.uncertainty):
        assert part.shape == volume.shape
        assert (part[~mask] == 0).all()
        assert np.isfinite(part).all()
    own = intensity_quantiles(volume, mask)[None]
    wanted = match(torch.from_numpy(volume[mask])[None], own, reference.quantiles[None])[0].numpy()
    # quantiles by every second voxel, of some thousand: 0.01; last layers of 0.001 to 0.002
    assert np.abs(made.image[mask] - wanted).mean() < 0.01
    assert made.uncertainty[mask].mean() == pytest.approx(TYPICAL_ERROR, rel=0.1)
    assert made.curve_change == pytest.approx(np.abs(made.image - volume)[mask].mean(), rel=1e-4)


def test_all_scans_of_a_site_get_the_curve_of_its_mean(bundle: Bundle, brain: tuple[np.ndarray, np.ndarray]) -> None:
    volume, mask = brain
    reference, site = (
        make_reference("x", "file", "", [(volume**gamma * mask, mask)], bundle, 5) for gamma in (1.4, 0.8)
    )
    own, *shared = (
        harmonize(scan * mask, mask, bundle, reference, Compute(), site=mean).curve
        for scan, mean in ((volume, None), (volume, site), (volume**1.1, site))
    )
    np.testing.assert_array_equal(*shared)
    assert np.abs(own - shared[0]).max() > 0.01
    brought = harmonize(volume**0.8 * mask, mask, bundle, reference, Compute(), site=site)
    # a scan that is like the mean of its site gets the reference's intensities; last layers of 0.001 to 0.002
    assert np.abs(brought.image - volume**1.4)[mask].mean() < 0.01


@pytest.mark.parametrize("axis", AXES)
def test_inference_does_to_a_volume_what_training_did_to_slices(
    bundle: Bundle, brain: tuple[np.ndarray, np.ndarray], axis: str
) -> None:
    """At every second voxel; maps of a quarter of that are upsampled in another order, which is linear, too."""
    volume, mask = brain
    smooth = (np.indices(volume.shape)[AXES.index(axis)] / 60 + 0.2).astype(np.float32) * mask
    generator = bundle.generators[axis]
    torch.manual_seed(1)
    trained = type(generator)(generator.architecture).eval()
    torch.nn.init.normal_(trained.error.head.weight, std=0.1)
    code = torch.randn(2, 1, 8, generator=torch.Generator().manual_seed(2))
    known = torch.linspace(0.1, 0.9, 101)[None]
    own, wanted = one_scan(code[0], known), one_scan(code[1], known**1.2)
    made, error, curve = curves.harmonize_axis(smooth, trained, axis, own, wanted, Compute())

    seen = np.ascontiguousarray(smooth[::2, ::2, ::2])
    slices = inference.to_slices(seen, axis)
    height, width = slices.shape[-2:]
    padded = inference.pad_to_multiple(slices, 16)
    places = curves.box_places((0, 0, 0), [n - 1 for n in seen.shape], seen.shape)
    where = torch.stack([curves.slice_places(places, AXES.index(axis), n) for n in range(len(slices))])
    with torch.no_grad():
        aims = trained.curve(own, wanted)
        through = match(padded.reshape(1, -1), known, aims).clamp(0.004, 1).reshape(padded.shape) * (padded > 0)
        codes = [part.expand(len(padded), -1) for part in code]
        result = trained(padded, through, inference.pad_to_multiple(where, 16), *codes)
    wanted_made = from_slices(result.harmonized[..., :height, :width], axis)
    inside = seen > 0
    np.testing.assert_allclose(made[::2, ::2, ::2][inside], wanted_made[inside], atol=2e-3)  # a table of 1025
    wanted_error = from_slices((result.log_error.exp() - 0.002).clamp(min=0)[..., :height, :width], axis)
    np.testing.assert_allclose(error[inside], wanted_error[inside], rtol=0.02, atol=1e-4)
    np.testing.assert_array_equal(curves.apply_curve(curve, smooth), made)


@pytest.fixture
def painting(bundle: Bundle) -> Bundle:
    """Generators of the paper's kind, whose contrast codes keep space."""
    torch.manual_seed(0)
    shape = PaperArchitecture(width=8, pooled_contrast=False)
    return replace(bundle, generators={axis: PaperGenerator(shape).eval() for axis in AXES})


class HalfPrecision(Compute):
    """What runs on a GPU with `--precision bfloat16`, on the CPU."""

    def autocast(self) -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16)


@pytest.mark.parametrize("kind", ["curves", "paper"])
def test_half_precision_is_near(
    brain: tuple[np.ndarray, np.ndarray], bundle: Bundle, painting: Bundle, kind: str
) -> None:
    """bfloat16 has 8 bits of mantissa: 0.004 of a value, and a network of some layers that many times more."""
    chosen = bundle if kind == "curves" else painting
    reference = make_reference("one", "file", "", [brain], chosen, 3)
    exact, half = (harmonize(*brain, chosen, reference, compute) for compute in (Compute(), HalfPrecision()))
    assert half.image.dtype == half.uncertainty.dtype == np.float32
    assert np.abs(half.image - exact.image).max() < 0.05
    assert np.abs(half.uncertainty - exact.uncertainty).max() < 0.05


def test_the_batch_suits_the_device() -> None:
    assert (Compute("cpu").batch, Compute("cuda:1").batch, Compute("cuda", 5).batch) == (16, 64, 5)


def test_fusion_is_the_median(rng: np.random.Generator) -> None:
    parts = rng.normal(size=(3, 5, 6, 7)).astype(np.float32)
    np.testing.assert_array_equal(median_of_three(*parts), np.median(parts, axis=0))


@pytest.mark.parametrize("shape", [(3, 4, 5), (16, 33, 50)])
def test_brains_of_any_size_and_none_at_all(bundle: Bundle, rng: np.random.Generator, shape: tuple[int, ...]) -> None:
    volume = rng.uniform(0.2, 0.8, shape).astype(np.float32)
    reference = bundle.references["default"]
    made = harmonize(volume, np.ones(shape, bool), bundle, reference, Compute())
    assert made.image.shape == shape and np.isfinite(made.image).all()
    nothing = harmonize(volume, np.zeros(shape, bool), bundle, reference, Compute())
    assert not nothing.image.any()


def test_the_papers_generators_paint_and_name_the_spread_of_the_axes(
    painting: Bundle, brain: tuple[np.ndarray, np.ndarray], rng: np.random.Generator
) -> None:
    """Codes that keep space come from brains of two sizes."""
    larger = rng.uniform(0.2, 0.8, (60, 70, 50)).astype(np.float32)
    brains = [brain, (larger, np.ones(larger.shape, bool))]
    reference = make_reference("two", "file", "", brains, painting, 3)
    assert all(code.shape == (1, 32, *inference.CODE_MAP) for code in reference.codes.values())
    made = harmonize(*brain, painting, reference, Compute())
    assert made.curve_change is None
    assert 0 < made.uncertainty[brain[1]].mean() < 0.5
    assert made.image.max() <= 1 and (made.image[~brain[1]] == 0).all()


def test_inference_is_deterministic_and_independent_of_the_batch(
    bundle: Bundle, brain: tuple[np.ndarray, np.ndarray]
) -> None:
    reference = bundle.references["default"]
    one, again, other = (harmonize(*brain, bundle, reference, Compute(batch=b)).image for b in (7, 7, 16))
    np.testing.assert_array_equal(one, again)
    np.testing.assert_allclose(one, other, atol=1e-5)  # sums in another order


def test_what_lies_outside_the_mask_has_no_say(bundle: Bundle, brain: tuple[np.ndarray, np.ndarray]) -> None:
    volume, mask = brain
    reference = bundle.references["default"]
    dirty = np.where(mask, volume, 0.9).astype(np.float32)
    np.testing.assert_array_equal(*(harmonize(v, mask, bundle, reference, Compute()).image for v in (volume, dirty)))


def test_a_reference_is_a_mean_and_survives_the_disk(
    tmp_path: Path, bundle: Bundle, brain: tuple[np.ndarray, np.ndarray]
) -> None:
    volume, mask = brain
    both = make_reference("x", "site", "abc", [(volume, mask), (volume**2, mask)], bundle, 5)
    parts = [contrast_codes(v * mask, bundle, 5) for v in (volume, volume**2)]
    for axis in AXES:
        torch.testing.assert_close(both.codes[axis], (parts[0][axis] + parts[1][axis]) / 2)
    save_reference(both, tmp_path / "x.safetensors")
    loaded = load_reference(tmp_path / "x.safetensors")
    assert (loaded.label, loaded.kind, loaded.sha256) == ("x", "site", "abc")
    assert loaded.fwhm == pytest.approx((smoothness(volume, mask) + smoothness(volume**2, mask)) / 2)
    assert loaded.noise == pytest.approx(both.noise, nan_ok=True)
    assert all(torch.equal(loaded.codes[axis], both.codes[axis]) for axis in AXES)


def test_out_of_memory_halves_the_batch_then_goes_to_the_cpu(
    bundle: Bundle, brain: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = Compute(device="cpu", batch=4)
    tried = []
    original = curves._errors

    def short_of_memory(*given):
        tried.append(given[-1].batch)
        if len(tried) < 4:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return original(*given)

    monkeypatch.setattr(curves, "_errors", short_of_memory)
    harmonize(*brain, bundle, bundle.references["default"], compute)
    assert tried[:4] == [4, 2, 1, 8]
    assert compute.device == "cpu"
    assert compute.fallbacks[-1] == "out of GPU memory: ran on the CPU"


def test_fidelity_of_an_untouched_image(bundle: Bundle, brain: tuple[np.ndarray, np.ndarray]) -> None:
    volume, mask = brain
    untouched = Harmonized(volume, np.zeros_like(volume))
    numbers = fidelity(volume, untouched, mask, bundle.references["default"])
    assert "curve_change" not in numbers  # not known: nothing is claimed
    assert numbers["gradient_correlation"] == pytest.approx(1)
    assert numbers["ssim_with_input"] == pytest.approx(1)
    assert numbers["histogram_distance_before"] == numbers["histogram_distance_after"]


def test_a_lesion_does_not_tell_the_scans_contrast(bundle: Bundle, brain: tuple[np.ndarray, np.ndarray]) -> None:
    """What lies in it changes its own voxels alone."""
    volume, mask = brain
    lesion = np.zeros_like(mask)
    lesion[10:18, 14:26, 14:26] = True
    lesion &= mask
    reference = make_reference("x", "file", "", [(volume**1.4 * mask, mask)], bundle, 5)

    def curved(level: float, seen: np.ndarray | None) -> np.ndarray:
        filled = np.where(lesion, np.float32(level), volume)
        return harmonize(filled, mask, bundle, reference, Compute(batch=5), seen).image

    rest = mask & ~lesion
    np.testing.assert_array_equal(curved(0.05, rest)[rest], curved(0.95, rest)[rest])
    assert np.abs(curved(0.05, None) - curved(0.95, None))[rest].mean() > 0.01
    assert (curved(0.95, rest)[lesion] > curved(0.05, rest)[lesion]).all()


def test_scans_of_one_scanner_get_one_curve(bundle: Bundle, brain: tuple[np.ndarray, np.ndarray]) -> None:
    """To the last digit, whichever is harmonized: what differs between them afterwards differed before."""
    volume, mask = brain
    grown = np.where(volume < 0.35, 0.8 * volume, volume)
    reference = bundle.references["default"]
    first = harmonize(volume, mask, bundle, reference, Compute(), others=[grown * mask])
    second = harmonize(grown, mask, bundle, reference, Compute(), others=[volume * mask])
    np.testing.assert_array_equal(first.curve, second.curve)
    alone = [harmonize(one, mask, bundle, reference, Compute()).curve for one in (volume, grown)]
    assert np.abs(alone[0] - alone[1]).max() > 0.01
