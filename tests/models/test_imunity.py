from __future__ import annotations

import pytest
import torch

from imunity_bids.models.imunity import (
    Architecture,
    Code,
    CodeHead,
    ContrastEncoder,
    Discriminator,
    Generator,
    _mean_over_brain,
    apply_curves,
    soft_bins,
)


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_sizes_are_those_of_the_authors_code() -> None:
    assert parameters(Generator(Architecture("synthesis"))) == 3_135_361
    assert parameters(CodeHead((128, 10, 12), 11)) == 1_967_627
    running = sum(b.numel() for name, b in Discriminator().named_buffers() if "running" in name)
    assert parameters(Discriminator()) + running == 75_841


@pytest.mark.parametrize("decoder", ["synthesis", "curves"])
@pytest.mark.parametrize("pooled", [True, False])
def test_shapes_range_and_background(decoder: str, pooled: bool) -> None:
    torch.manual_seed(0)
    generator = Generator(Architecture(decoder, width=8, pooled_contrast=pooled)).eval()
    image = torch.rand(2, 1, 32, 48)
    image[:, :, :8] = 0
    code = generator.contrast(image).mean
    assert code.shape == ((2, 32, 1, 1) if pooled else (2, 32, 2, 3))
    out = generator(image, code)
    assert out.shape == image.shape
    assert (out[:, :, :8] == 0).all()
    assert out.min() >= 0 and out.max() <= 1


def test_an_architecture_comes_back_from_its_card() -> None:
    architecture = Architecture(width=8, bins=12, strength=0.25)
    assert Architecture.from_dict(architecture.to_dict()) == architecture


def test_cards_up_to_version_0_5_name_a_variant_that_none_has() -> None:
    """`monotone` was given up; a card that asks for it must not be read as one that does not."""
    card = Architecture(width=8).to_dict()
    assert Architecture.from_dict({**card, "monotone": False}) == Architecture(width=8)
    with pytest.raises(TypeError, match="monotone"):
        Architecture.from_dict({**card, "monotone": True})
    with pytest.raises(TypeError, match="nonsense"):
        Architecture.from_dict({**card, "nonsense": 1})


def test_curves_begin_near_the_identity() -> None:
    torch.manual_seed(0)
    generator = Generator(Architecture(width=8)).eval()
    image = torch.rand(2, 1, 32, 32)
    out = generator(image, generator.contrast(image).mean)
    assert (out - image).abs().mean() < 0.05


def test_strength_is_the_share_of_the_change_that_is_done() -> None:
    torch.manual_seed(0)
    full, half, none = (Generator(Architecture(width=8, strength=strength)).eval() for strength in (1.0, 0.5, 0.0))
    half.load_state_dict(full.state_dict())
    none.load_state_dict(full.state_dict())
    image = 0.2 + 0.6 * torch.rand(2, 1, 32, 32)  # away from 0 and 1, where the output is clipped
    change, halved, nothing = (made(image, made.contrast(image).mean) - image for made in (full, half, none))
    assert change.abs().mean() > 1e-3
    assert torch.allclose(halved, change / 2, atol=1e-5)  # float32
    assert nothing.abs().max() < 1e-5


def test_curves_are_looked_up_exactly_at_and_between_knots() -> None:
    curves = torch.tensor([0.0, 0.2, 1.0])[None, :, None, None].expand(1, 3, 2, 2)
    image = torch.tensor([[[[0.0, 0.25], [0.5, 0.75]]]])
    assert torch.allclose(apply_curves(curves, image), torch.tensor([[[[0.0, 0.1], [0.2, 0.6]]]]))


def test_the_pooled_code_does_not_see_where_the_brain_lies() -> None:
    torch.manual_seed(0)
    encoder = ContrastEncoder(Architecture(width=8)).eval()
    image = torch.zeros(1, 1, 256, 256)  # the window of one code is 63 pixels: the borders must stay out of reach
    image[:, :, 96:128, 96:128] = torch.rand(32, 32)
    moved = image.roll((32, 32), dims=(2, 3))
    assert torch.allclose(encoder(image).mean, encoder(moved).mean, atol=1e-5)


def test_kl_is_zero_for_the_standard_normal_distribution() -> None:
    zeros = torch.zeros(1, 2, 3, 3)
    assert Code(zeros, zeros).kl() == 0
    assert Code(zeros + 1, zeros).kl() == pytest.approx(0.5)


def test_inference_uses_means_only() -> None:
    torch.manual_seed(0)
    generator = Generator(Architecture(width=8)).eval()
    image = torch.rand(1, 1, 32, 32)
    code = generator.contrast(image).mean
    assert torch.equal(generator(image, code), generator(image, code))


def test_curves_are_averaged_over_the_brain_alone() -> None:
    values = torch.zeros(1, 2, 8, 8)
    values[..., :4] = 1.0
    image = torch.zeros(1, 1, 32, 32)
    image[..., :16] = 0.5  # brain where the values are 1
    mean = _mean_over_brain(values, image, 5)
    assert torch.allclose(mean[..., :4], torch.ones(1, 2, 8, 4), atol=1e-3)


def test_soft_bins_share_every_pixel_out() -> None:
    image = torch.rand(2, 1, 5, 5)
    bins = soft_bins(image, 12)
    torch.testing.assert_close(bins.sum(dim=1, keepdim=True), torch.ones_like(image))
    centres = torch.linspace(0, 1, 12)[:, None, None]
    torch.testing.assert_close((bins * centres).sum(dim=1, keepdim=True), image)
