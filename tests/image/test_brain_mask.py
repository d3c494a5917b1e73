from __future__ import annotations

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy.ndimage import binary_dilation, binary_erosion

from imunity_bids.errors import DataUnusable
from imunity_bids.image import brain_mask as bm
from imunity_bids.image.resample import resample
from imunity_bids.models.brain import BrainNet, depth_to_space, normalise, space_to_depth
from imunity_bids.qc.measures import findings
from imunity_bids.qc.verdict import verdict


@pytest.fixture
def stripped(ball: np.ndarray, rng: np.random.Generator) -> nib.Nifti1Image:
    """A ball of 1.4 L in an empty surrounding."""
    data = ball * rng.uniform(50, 100, ball.shape)
    return nib.Nifti1Image(data.astype(np.float32), np.diag([3.5, 3.5, 3.5, 1]))


def test_depth_to_space_undoes_space_to_depth() -> None:
    volume = torch.rand(2, 1, 8, 6, 4)
    assert torch.equal(depth_to_space(space_to_depth(volume)), volume)


def test_normalise_ignores_unit_and_padding() -> None:
    volume = torch.rand(20, 20, 20) + 0.1
    padded = torch.nn.functional.pad(volume, (5, 5, 5, 5, 5, 5))
    one, other = normalise(volume), normalise(padded * 300)[5:-5, 5:-5, 5:-5]
    assert torch.allclose(one, other, atol=0.01)  # quantiles of a subsample
    assert one.min() >= 0 and one.max() <= 1
    assert (normalise(torch.zeros(4, 4, 4)) == 0).all()


def test_a_stripped_scan_is_recognised_and_a_head_is_not(stripped: nib.Nifti1Image, ball: np.ndarray) -> None:
    data = np.asarray(stripped.dataobj)
    assert bm.is_stripped(stripped, ball)
    assert bm.is_stripped(stripped, binary_erosion(ball))
    scalp = binary_dilation(ball, iterations=5) & ~binary_dilation(ball, iterations=3)
    head = nib.Nifti1Image((data + 60 * scalp).astype(np.float32), stripped.affine)
    assert not bm.is_stripped(head, ball)
    noisy = nib.Nifti1Image((data + 0.1).astype(np.float32), stripped.affine)
    assert not bm.is_stripped(noisy, ball)


def test_the_mask_of_a_stripped_scan_is_what_is_not_empty(stripped: nib.Nifti1Image, ball: np.ndarray) -> None:
    data = np.array(stripped.dataobj)
    data[28:31, 28:31, 28:31] = 0  # a dark ventricle is brain too
    data[2, 2, 2] = 1  # a stray voxel is not
    brain = bm.stripped_mask(nib.Nifti1Image(data, stripped.affine))
    assert (brain.mask & ball).sum() / ball.sum() > 0.999
    assert not brain.mask[2, 2, 2]
    assert brain.volume_ml == pytest.approx(ball.sum() * 3.5**3 / 1000, rel=0.02)
    assert findings(brain.measures()) == []


def test_signed_distance_is_in_mm_and_positive_inside(ball: np.ndarray) -> None:
    distance = bm.signed_distance(ball, 2.0)
    # half a voxel beside the middle of a ball of 20 voxels, along every axis
    assert distance[30, 30, 30] == pytest.approx(2 * (20 - 0.75**0.5), abs=1)
    assert distance[0, 30, 30] == pytest.approx(-2 * 9.5, abs=2)
    assert distance[ball].min() == 1.0  # half a voxel
    assert distance[~ball].max() == -1.0


def test_an_untrained_network_finds_something_or_says_so(stripped: nib.Nifti1Image) -> None:
    torch.manual_seed(0)
    network = BrainNet((4, 8)).eval()
    network.head.bias.data.fill_(50.0)
    brain = bm.network_mask(stripped, network)
    assert brain.mask.shape == stripped.shape
    network.head.bias.data.fill_(-50.0)
    with pytest.raises(DataUnusable, match="no brain"):
        bm.network_mask(stripped, network)


class _SurerOnTheRight(torch.nn.Module):
    """Finds what is bright, with less confidence in the left half of its field."""

    multiple = 4

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        logits = torch.where(volume > 0.3, 4.0, -4.0)
        logits[:, :, : volume.shape[2] // 2] -= 3
        return logits


def test_the_second_look_has_no_better_side(stripped: nib.Nifti1Image, ball: np.ndarray) -> None:
    probability, affine = bm.brain_probability(stripped, _SurerOnTheRight())
    inside = resample(binary_erosion(ball, iterations=3).astype(np.float32), stripped.affine, probability.shape, affine)
    expected = torch.tensor([1.0, 4.0]).sigmoid().mean().item()
    assert probability[inside > 0.5] == pytest.approx(expected, abs=1e-4)


GOOD = bm.BrainMask(np.ones((1, 1, 1), bool), 1450, 0.0, 0.0, 0.05, "network")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "ok"),
        ({"volume_ml": 800}, "check"),
        ({"volume_ml": 150}, "failed"),
        ({"volume_ml": 3000}, "failed"),
        ({"border_share": 0.05}, "check"),
        ({"border_share": 0.4}, "failed"),
        ({"stray_share": 0.05}, "check"),
        ({"stray_share": 0.3}, "failed"),
        ({"unsure_share": 0.5}, "check"),
    ],
)
def test_the_gate_never_passes_what_is_implausible(change: dict[str, float], expected: str) -> None:
    found = verdict(findings(replace(GOOD, **change).measures()))
    assert found.verdict == expected
    assert (found.reason == "") == (expected == "ok")
