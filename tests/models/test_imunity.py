"""Our generator."""

from __future__ import annotations

import pytest
import torch

from imunity_bids.models.imunity import (
    TYPICAL_ERROR,
    Architecture,
    Code,
    Contrast,
    Generator,
    after_curve,
    anchored,
    box_places,
    look_up,
    one_scan,
    slice_places,
    soft_bins,
)
from imunity_bids.models.quantiles import STEPS, match, quantiles

TINY = Architecture(width=4, code=8, hidden=16)


@pytest.fixture
def generator() -> Generator:
    torch.manual_seed(0)
    return Generator(TINY).eval().requires_grad_(False)


@pytest.fixture
def slices() -> torch.Tensor:
    """Two slices (2, 1, 32, 48), the upper quarter being background."""
    image = 0.2 + 0.6 * torch.rand(2, 1, 32, 48, generator=torch.Generator().manual_seed(1))
    image[:, :, :8] = 0
    return image


def contrast(image: torch.Tensor, generator: Generator) -> Contrast:
    """Of each slice as a volume of its own."""
    known = torch.stack([quantiles(one[one > 0]) for one in image])
    return one_scan(generator.contrast(image, torch.zeros(len(image), 1, 3, *image.shape[-2:]), known).mean, known)


def test_it_starts_as_histogram_matching(generator: Generator, slices: torch.Tensor) -> None:
    """Weights of the last layers are 0.001 to 0.002: a thousandth of the intensity, not a hundredth."""
    own = contrast(slices, generator)
    wanted = one_scan(own.code.flip(0), own.quantiles.flip(0) ** 1.3)
    aims = generator.curve(own, wanted)
    curved = after_curve(slices.flatten(1), own.quantiles, aims).reshape(slices.shape) * (slices > 0)
    matched = match(slices.flatten(1), own.quantiles, wanted.quantiles).reshape(slices.shape) * (slices > 0)
    result = generator(slices, curved, torch.zeros(2, 3, 32, 48), own.code, wanted.code)
    assert (curved - matched).abs().max() < 0.002
    assert (result.log_error.exp()[slices > 0] / TYPICAL_ERROR - 1).abs().max() < 0.1
    assert (result.harmonized[slices == 0] == 0).all()


def test_curves_stay_in_order_and_in_range(generator: Generator) -> None:
    """Whatever the network adds: a brain keeps its order of intensities."""
    torch.nn.init.normal_(generator.curve.layers[-1].weight, std=1.0)
    codes = torch.randn(4, 8, generator=torch.Generator().manual_seed(2))
    known = torch.linspace(0, 1, STEPS).expand(4, -1)
    aims = generator.curve(one_scan(codes, known), one_scan(codes.flip(0), known))
    assert (aims.diff(dim=1) >= 0).all()
    assert aims.min() >= 0 and aims.max() <= 1


def test_a_reference_of_more_brains_is_another_one_until_there_are_many(generator: Generator) -> None:
    torch.nn.init.normal_(generator.curve.layers[-1].weight, std=1.0)
    codes = torch.randn(4, 8, generator=torch.Generator().manual_seed(2))
    own = one_scan(codes, torch.linspace(0.1, 0.9, STEPS).expand(4, -1))
    aims = {n: generator.curve(own, own._replace(brains=torch.full((4, 1), n))) for n in (1.0, 2.0, 4.0, 9.0)}
    assert not torch.equal(aims[1.0], aims[2.0])
    assert torch.equal(aims[4.0], aims[9.0])


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_what_lies_at_every_nth_pixel_stays_there_and_a_ramp_stays_a_ramp(dimensions: int) -> None:
    ramp = torch.arange(4.0).reshape(-1, *[1] * (dimensions - 1)).expand([4] * dimensions)[None, None]
    fine = anchored(ramp, 4, [15] * dimensions)
    assert fine.shape[2:] == (15,) * dimensions
    at = (0, 0, slice(None), *[3] * (dimensions - 1))
    torch.testing.assert_close(fine[at], (torch.arange(15.0) / 4).clamp(max=3))  # held beyond the last
    assert anchored(ramp, 4, [5] * dimensions)[at].tolist() == [0, 0.25, 0.5, 0.75, 1]


def test_the_contrast_code_pools_all_slices(generator: Generator, slices: torch.Tensor) -> None:
    """A volume twice has the code of the volume; the order of its slices does not matter."""
    places = torch.zeros(1, 2, 3, 32, 48)
    known = torch.linspace(0, 1, STEPS)[None]
    stack = slices[:, 0][None]
    code = generator.contrast(stack, places, known).mean
    twice = generator.contrast(torch.cat([stack, stack], dim=1), torch.cat([places, places], dim=1), known).mean
    torch.testing.assert_close(code, twice, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(code, generator.contrast(stack.flip(1), places, known).mean, atol=1e-5, rtol=1e-4)
    other = generator.contrast((stack**1.5), places, known).mean
    assert (other - code).abs().max() > 1e-3


def test_training_samples_and_inference_does_not(generator: Generator, slices: torch.Tensor) -> None:
    own = contrast(slices, generator)
    given = (slices, slices, torch.zeros(2, 3, 32, 48), own.code, own.code)
    assert torch.equal(generator(*given).log_error, generator(*given).log_error)
    generator.train()
    torch.nn.init.normal_(generator.error.head.weight, std=0.1)
    assert not torch.equal(generator(*given).log_error, generator(*given).log_error)


def test_local_curves_are_looked_up_exactly_at_and_between_knots() -> None:
    curves = torch.tensor([0.0, 0.2, 1.0])[None, :, None, None].expand(1, 3, 2, 2)
    image = torch.tensor([[[[0.0, 0.25], [0.5, 0.75]]]])
    torch.testing.assert_close(look_up(curves, image), torch.tensor([[[[0.0, 0.1], [0.2, 0.6]]]]))


def test_places_go_from_minus_one_to_one_in_the_box_and_left_is_like_right() -> None:
    places = box_places((2, 0, 1), (8, 4, 5), (11, 5, 7))
    assert [len(axis) for axis in places] == [11, 5, 7]
    assert places[0][[2, 5, 8]].tolist() == [1, -1, 1]
    assert places[1][[0, 2, 4]].tolist() == [-1, 0, 1]
    plane = slice_places(places, 1, 3)
    assert plane.shape == (3, 11, 7)
    assert (plane[0] == 0.5).all()
    assert plane[1, :, 0].tolist() == places[0].tolist()
    assert plane[2, 0].tolist() == places[2].tolist()


def test_kl_is_zero_for_the_standard_normal_distribution() -> None:
    zeros = torch.zeros(1, 2, 3, 3)
    assert Code(zeros, zeros).kl() == 0
    assert Code(zeros + 1, zeros).kl() == pytest.approx(0.5)


def test_soft_bins_share_every_pixel_out() -> None:
    image = torch.rand(2, 1, 5, 5)
    bins = soft_bins(image, 12)
    torch.testing.assert_close(bins.sum(dim=1, keepdim=True), torch.ones_like(image))
    centres = torch.linspace(0, 1, 12)[:, None, None]
    torch.testing.assert_close((bins * centres).sum(dim=1, keepdim=True), image)
