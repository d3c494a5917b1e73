from __future__ import annotations

import pytest
import torch

pytest.importorskip("monai", reason="training needs the extra `train`")

from imunity_bids.training.pairs import Batch, Example
from imunity_bids.training.tissue_levels import LevelHeads, tissue_levels

MEANS = torch.tensor([[0.2, 0.5]])


def halves() -> torch.Tensor:
    """CSF on the left, gray matter in the middle, white on the right, background around."""
    image = torch.zeros(1, 1, 32, 32)
    image[..., 4:28, 4:12], image[..., 4:28, 12:20], image[..., 4:28, 20:28] = 0.2, 0.5, 0.7
    return image


def test_levels_are_those_of_the_new_contrast() -> None:
    native = halves()
    levels, known = tissue_levels(native, native**2, MEANS)
    torch.testing.assert_close(levels, torch.tensor([[0.04, 0.25]]), atol=1e-4, rtol=0)
    assert known.all()


def test_a_tissue_that_is_not_there_is_not_asked_for() -> None:
    native = halves()
    native[native == 0.2] = 0.7
    levels, known = tissue_levels(native, native, MEANS)
    assert known.tolist() == [[False, True]]
    heads = LevelHeads(8)
    batch = Batch(native, native, MEANS, *4 * [torch.zeros(1)])
    loss = heads(torch.zeros(1, 8, 2, 2), torch.zeros(1, 8, 1, 1), batch, Example(native, native, native))
    expected = [(h.bias[1] - levels[0, 1]).abs() for h in (heads.anatomy, heads.contrast)]
    torch.testing.assert_close(loss, torch.stack(expected).mean())
