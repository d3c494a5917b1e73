from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from imunity_bids.harmonize import inference
from imunity_bids.harmonize.inference import Compute, contrast_codes, from_slices, harmonize, to_slices
from imunity_bids.harmonize.references import load_reference, make_reference, save_reference
from imunity_bids.metrics import similarity
from imunity_bids.models.bundle import Bundle, load_bundle
from imunity_bids.models.card import AXES
from imunity_bids.models.histogram import TYPICAL_ERROR, HistogramNet
from imunity_bids.models.imunity import Architecture, Generator
from imunity_bids.models.quantiles import STEPS
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


def test_harmonized_volumes_keep_grid_and_background(bundle: Bundle, brain: tuple[np.ndarray, np.ndarray]) -> None:
    volume, mask = brain
    out, spread = harmonize(volume, mask, bundle, bundle.references["default"], Compute(batch=5))
    assert out.shape == spread.shape == volume.shape
    assert (out[~mask] == 0).all()
    assert (spread[~mask] == 0).all()
    assert np.isfinite(out).all()
    assert spread[mask].max() > 0
    assert similarity.mae(out, volume, mask) < 0.05  # untrained curves are near the identity


def test_the_histogram_network_says_what_to_aim_at_and_what_error_to_expect(
    brain: tuple[np.ndarray, np.ndarray],
) -> None:
    volume, mask = brain
    network = HistogramNet()
    with torch.no_grad():
        network.layers[-1].weight.zero_()
        network.layers[-1].bias[:STEPS] = 0.5  # times CHANGE: 0.05 above the reference
        network.layers[-1].bias[STEPS:] = torch.linspace(0, np.log(2), STEPS)  # twice as bad at the bright end
    reference = torch.linspace(0.1, 0.7, STEPS)
    made, error = inference._prematched(volume, mask, reference, network)
    assert inference.intensity_quantiles(made, mask).numpy() == pytest.approx(reference.numpy() + 0.05, abs=0.01)
    darkest, brightest = (np.argmin(np.where(mask, volume, 1)), np.argmax(np.where(mask, volume, 0)))
    assert error.flat[darkest] == pytest.approx(TYPICAL_ERROR, rel=1e-4)
    assert error.flat[brightest] == pytest.approx(2 * TYPICAL_ERROR, rel=1e-4)
    assert (made[~mask] == 0).all() and (error[~mask] == 0).all()
    plain, unknown = inference._prematched(volume, mask, reference, None)
    assert inference.intensity_quantiles(plain, mask).numpy() == pytest.approx(reference.numpy(), abs=0.01)
    assert not unknown.any()


def test_spatial_contrast_codes_of_brains_of_different_sizes_make_one_reference(
    bundle: Bundle, brain: tuple[np.ndarray, np.ndarray], rng: np.random.Generator
) -> None:
    torch.manual_seed(0)
    generators = {axis: Generator(Architecture(width=8, pooled_contrast=False)).eval() for axis in AXES}
    spatial = replace(bundle, generators=generators)
    larger = rng.uniform(0.2, 0.8, (60, 70, 50)).astype(np.float32)
    brains = [brain, (larger, np.ones(larger.shape, bool))]
    reference = make_reference("two", "file", "", brains, spatial, 3)
    assert all(code.shape == (1, 32, *inference.CODE_MAP) for code in reference.codes.values())
    made, _ = harmonize(*brain, spatial, reference, Compute())
    assert similarity.mae(made, brain[0], brain[1]) < 0.05  # untrained curves are near the identity


def test_inference_is_deterministic_and_independent_of_the_batch(
    bundle: Bundle, brain: tuple[np.ndarray, np.ndarray]
) -> None:
    reference = bundle.references["default"]
    one, again, other = (harmonize(*brain, bundle, reference, Compute(batch=b))[0] for b in (7, 7, 16))
    np.testing.assert_array_equal(one, again)
    np.testing.assert_allclose(one, other, atol=1e-5)  # sums in another order


def test_what_lies_outside_the_mask_has_no_say(bundle: Bundle, brain: tuple[np.ndarray, np.ndarray]) -> None:
    volume, mask = brain
    reference = bundle.references["default"]
    dirty = np.where(mask, volume, 0.9).astype(np.float32)
    np.testing.assert_array_equal(*(harmonize(v, mask, bundle, reference, Compute())[0] for v in (volume, dirty)))


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
    assert all(torch.equal(loaded.codes[axis], both.codes[axis]) for axis in AXES)


def test_out_of_memory_halves_the_batch_then_goes_to_the_cpu(
    bundle: Bundle, brain: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = Compute(device="cpu", batch=4)
    tried = []
    original = inference._in_batches

    def short_of_memory(slices, generator, code, given):
        tried.append(given.batch)
        if len(tried) < 4:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return original(slices, generator, code, given)

    monkeypatch.setattr(inference, "_in_batches", short_of_memory)
    harmonize(*brain, bundle, bundle.references["default"], compute)
    assert tried[:4] == [4, 2, 1, 8]
    assert compute.device == "cpu"
    assert compute.fallbacks[-1] == "out of GPU memory: ran on the CPU"


def test_fidelity_of_an_untouched_image(bundle: Bundle, brain: tuple[np.ndarray, np.ndarray]) -> None:
    volume, mask = brain
    numbers = fidelity(volume, volume, np.zeros_like(volume), mask, bundle.references["default"])
    assert numbers["gradient_correlation"] == pytest.approx(1)
    assert numbers["ssim_with_input"] == pytest.approx(1)
    assert numbers["histogram_distance_before"] == numbers["histogram_distance_after"]
