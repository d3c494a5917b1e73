"""The paper's generator, and what only training has."""

from __future__ import annotations

import pytest
import torch

from imunity_bids.models.heads import Discriminator
from imunity_bids.models.paper import ContrastEncoder, PaperArchitecture, PaperGenerator
from imunity_bids.unlearning.networks import DenseHead


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_sizes_are_those_of_the_authors_code() -> None:
    assert parameters(PaperGenerator(PaperArchitecture())) == 3_135_361
    assert parameters(DenseHead(128 * 10 * 12, 11)) == 1_967_627
    running = sum(b.numel() for name, b in Discriminator().named_buffers() if "running" in name)
    assert parameters(Discriminator()) + running == 75_841


@pytest.mark.parametrize("pooled", [True, False])
def test_shapes_range_and_background(pooled: bool) -> None:
    torch.manual_seed(0)
    generator = PaperGenerator(PaperArchitecture(width=8, pooled_contrast=pooled)).eval()
    image = torch.rand(2, 1, 32, 48)
    image[:, :, :8] = 0
    code = generator.contrast(image).mean
    assert code.shape == ((2, 32, 1, 1) if pooled else (2, 32, 2, 3))
    out = generator(image, code)
    assert out.shape == image.shape
    assert (out[:, :, :8] == 0).all()
    assert out.min() >= 0 and out.max() <= 1


def test_the_pooled_code_does_not_see_where_the_brain_lies() -> None:
    torch.manual_seed(0)
    encoder = ContrastEncoder(PaperArchitecture(width=8)).eval()
    image = torch.zeros(1, 1, 256, 256)  # the window of one code is 63 pixels: the borders must stay out of reach
    image[:, :, 96:128, 96:128] = torch.rand(32, 32)
    moved = image.roll((32, 32), dims=(2, 3))
    assert torch.allclose(encoder(image).mean, encoder(moved).mean, atol=1e-5)


def test_inference_uses_means_only() -> None:
    torch.manual_seed(0)
    generator = PaperGenerator(PaperArchitecture(width=8)).eval()
    image = torch.rand(1, 1, 32, 32)
    code = generator.contrast(image).mean
    assert torch.equal(generator(image, code), generator(image, code))
