from __future__ import annotations

import numpy as np
import torch

from imunity_bids.models.quantiles import match, quantiles


def test_quantiles_are_numpys() -> None:
    values = torch.rand(1234, generator=torch.Generator().manual_seed(0))
    expected = np.quantile(values.numpy(), np.linspace(0, 1, 101))
    np.testing.assert_allclose(quantiles(values).numpy(), expected, atol=1e-6)


def test_matching_gives_the_other_distribution_and_keeps_the_order() -> None:
    g = torch.Generator().manual_seed(0)
    one, other = torch.rand(5000, generator=g), torch.rand(4000, generator=g) ** 2
    matched = match(one[None], quantiles(one)[None], quantiles(other)[None])[0]
    torch.testing.assert_close(quantiles(matched), quantiles(other), atol=2e-3, rtol=0)
    assert (matched[one.argsort()].diff() >= 0).all()


def test_a_distribution_matched_to_itself_stays_and_so_do_ties_and_outliers() -> None:
    values = torch.cat([torch.full((50,), 0.3), torch.linspace(0.3, 0.8, 50)])
    own = quantiles(values)[None]
    torch.testing.assert_close(match(values[None], own, own)[0], values, atol=1e-5, rtol=0)
    torch.testing.assert_close(match(torch.tensor([[0.1, 0.95]]), own, own), torch.tensor([[0.1, 0.95]]))
