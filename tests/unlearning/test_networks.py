from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from imunity_bids.unlearning.networks import SiteHead, TableEncoder, TapHead, Taps, TissueHead, UNet, VggEncoder
from imunity_bids.unlearning.trainer import apply, as_vectors, detached


def test_encoder_and_its_heads() -> None:
    features = VggEncoder(width=4, blocks=3, features=10)(torch.randn(2, 1, 17, 20, 16))
    assert features.shape == (2, 10)
    assert features.min() < 0  # none is cut off, where confusion could drive it
    assert SiteHead(10, 5)(features).shape == (2, 5)
    assert TableEncoder(7, features=6)(torch.randn(3, 7)).shape == (3, 6)


def test_width_is_what_it_is_called() -> None:
    counts = [sum(p.numel() for p in VggEncoder(width=w).parameters()) for w in (4, 8)]
    assert 3 < counts[1] / counts[0] < 4.1


def test_features_of_a_trained_encoder_do_not_depend_on_the_batch() -> None:
    volumes = torch.randn(4, 1, 16, 16, 16)
    encoder = VggEncoder(4, 3).eval()
    assert torch.allclose(encoder(volumes)[1:2], encoder(volumes[1:2]), atol=1e-5)


def test_any_size_of_a_slice() -> None:
    network, head = UNet(width=4, depth=3), TissueHead(4, 3)
    taps = network(torch.randn(2, 1, 29, 34))
    assert taps.last.shape == (2, 4, 29, 34)
    assert taps.bottleneck.shape == (2, 32, 4, 5)
    assert head(taps).shape == (2, 3, 29, 34)
    assert taps.vectors().shape == (2, 4 * 17)


@pytest.mark.parametrize("places", ["A", "B", "AB"])
def test_a_tap_head_looks_where_it_is_told_to(places: str) -> None:
    head = TapHead(places, last=4, bottleneck=32, classes=3).eval()
    taps = Taps(torch.randn(2, 4, 24, 24), torch.randn(2, 32, 3, 3))
    elsewhere = {
        "A": taps._replace(last=torch.randn(2, 4, 24, 24)),
        "B": taps._replace(bottleneck=torch.randn(2, 32, 3, 3)),
    }
    for place, changed in elsewhere.items():
        assert torch.equal(head(taps), head(changed)) == (place not in places)


def test_no_gradient_runs_back_through_detached_taps() -> None:
    network = UNet(4, 2)
    loss = TapHead("AB", 4, 16, 2)(detached(network(torch.randn(3, 1, 16, 16)))).sum()
    loss.backward()
    assert all(parameter.grad is None for parameter in network.parameters())


def test_apply_goes_through_in_pieces() -> None:
    network, head = UNet(4, 2), TissueHead(4, 3)
    slices = torch.randn(5, 1, 16, 16)
    vectors, outputs = apply(network, head, slices, "cpu", batch=2)
    assert torch.allclose(vectors, as_vectors(network(slices)), atol=1e-5)
    assert outputs.shape == (5, 3, 16, 16)
    assert network.training


@pytest.mark.parametrize("places", ["A", "B", "AB"])
def test_a_classifier_that_overshot_still_learns(places: str) -> None:
    """Rectified hidden units died at B for good, and confusion with a dead classifier moves nothing."""
    head = TapHead(places, last=4, bottleneck=8, classes=2)
    for branch in head.branches.values():
        torch.nn.init.constant_(branch.project.bias, -100.0)
    taps = Taps(torch.randn(6, 4, 16, 16), torch.randn(6, 8, 4, 4))
    functional.cross_entropy(head(taps), torch.tensor([0, 1, 0, 1, 0, 1])).backward()
    for branch in head.branches.values():
        assert branch.project.weight.grad.abs().max() > 1e-3
