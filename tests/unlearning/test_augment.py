from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from imunity_bids.unlearning.augment import Poses, _skew
from imunity_bids.unlearning.samples import Samples

STILL = Poses(1.0, degrees=0, shift_mm=0, scale=0, warp_mm=0, share=1)


def samples(inputs: torch.Tensor, target: torch.Tensor | None = None) -> Samples:
    target = torch.zeros(len(inputs)) if target is None else target
    return Samples(inputs, target, torch.ones(len(inputs), dtype=torch.bool), torch.arange(len(inputs)) % 2)


@pytest.mark.parametrize("shape", [(9, 12, 10), (9, 12)])
def test_without_moves_an_image_stays_or_is_mirrored_left_to_right(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(20, 1, *shape)
    seen = STILL(samples(inputs)).inputs
    same = [torch.allclose(a, b, atol=1e-4) for a, b in zip(seen, inputs, strict=True)]
    mirrored = [torch.allclose(a, b.flip(1), atol=1e-4) for a, b in zip(seen, inputs, strict=True)]
    assert [a != b for a, b in zip(same, mirrored, strict=True)] == 20 * [True]
    assert 0 < sum(same) < 20


def test_turns_are_rigid_on_grids_that_are_no_cubes() -> None:
    """A ball away from the middle keeps its distance from it, and its mass."""
    places = torch.stack(torch.meshgrid(*[torch.arange(n) - (n - 1) / 2 for n in (31, 41, 35)], indexing="ij"))
    ball = (-(places - torch.tensor([4.0, 9.0, 2.0])[:, None, None, None]).square().sum(0) / 8).exp()
    torch.manual_seed(1)
    seen = replace(STILL, degrees=20)(samples(ball.expand(12, 1, *ball.shape))).inputs[:, 0]
    centres = torch.einsum("bxyz,axyz->ba", seen, places) / seen.sum((1, 2, 3))[:, None]
    assert torch.allclose(centres.norm(dim=1), torch.tensor(101.0).sqrt().expand(12), atol=0.1)
    assert torch.allclose(seen.sum((1, 2, 3)), ball.sum().expand(12), rtol=0.02)
    assert centres.std(dim=0).min() > 0.5


def test_shifts_are_in_mm() -> None:
    point = torch.zeros(200, 1, 21, 21, 21)
    point[:, :, 10, 10, 10] = 1
    torch.manual_seed(2)
    seen = replace(STILL, spacing_mm=8.0, shift_mm=8.0)(samples(point)).inputs[:, 0]
    centres = torch.stack([(seen.sum(dim=others) * torch.arange(21)).sum(1) for others in ((2, 3), (1, 3), (1, 2))])
    assert float((centres - 10).std()) == pytest.approx(1.0, rel=0.1)


def test_label_maps_move_with_their_images() -> None:
    torch.manual_seed(3)
    maps = (torch.rand(6, 1, 5, 6) > 0.5).float()
    maps = torch.nn.functional.interpolate(maps, scale_factor=8.0)
    seen = Poses(4.0, share=1)(samples(maps, maps[:, 0].long()))
    assert seen.target.dtype == torch.long
    clear = (seen.inputs[:, 0] < 0.01) | (seen.inputs[:, 0] > 0.99)  # between, borders are blurred
    assert torch.equal((seen.inputs[:, 0] > 0.5)[clear], (seen.target == 1)[clear])
    assert clear.float().mean() > 0.5
    assert not torch.equal(seen.target, maps[:, 0].long())


def test_a_share_stays_sharp_and_the_seed_decides() -> None:
    inputs = torch.randn(200, 1, 8, 9, 7)
    torch.manual_seed(4)
    first = Poses(3.0, share=0.3)(samples(inputs)).inputs
    torch.manual_seed(4)
    assert torch.equal(first, Poses(3.0, share=0.3)(samples(inputs)).inputs)
    sharp = [
        torch.allclose(a, b, atol=1e-4) or torch.allclose(a, b.flip(1), atol=1e-4)
        for a, b in zip(first, inputs, strict=True)
    ]
    assert sum(sharp) == pytest.approx(140, abs=25)


def test_rotations_do_not_stretch() -> None:
    turns = torch.linalg.matrix_exp(_skew(torch.randn(5, 3), 3))
    assert torch.allclose(turns @ turns.transpose(1, 2), torch.eye(3).expand(5, 3, 3), atol=1e-5)
