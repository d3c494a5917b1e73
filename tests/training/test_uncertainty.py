from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn", reason="training needs the extra `train`")

from scipy import stats

from imunity_bids.models.bundle import load_bundle
from imunity_bids.models.uncertainty import FEATURES, LEAST, ErrorNet, describe
from imunity_bids.simulation import scanners
from imunity_bids.simulation.histograms import levels
from imunity_bids.training import uncertainty
from tests.simulation.people import someone


def test_features_are_what_they_are_called(rng: np.random.Generator) -> None:
    mask = np.zeros((24, 24, 24), bool)
    mask[2:22, 2:22, 2:22] = True
    scan = np.where(mask, 0.5, 0).astype(np.float32)
    scan[12, 12, 12] = 0.77
    made = (scan + 0.1 * mask).astype(np.float32)
    spread, expected = (rng.uniform(0, 1, mask.shape).astype(np.float32) for _ in range(2))
    found = dict(zip(FEATURES, describe(scan, made, spread, expected, mask).T, strict=True))
    middle = np.flatnonzero(np.flatnonzero(mask) == np.ravel_multi_index((12, 12, 12), mask.shape))[0]
    values = {
        "scan": 0.77, "harmonized": 0.87, "change": 0.1, "spread of the axes": spread[12, 12, 12],
        "error that the histogram network expects": expected[12, 12, 12],
        "standard deviation of the scan over 27 voxels": 0.27 * np.sqrt(26) / 27,
        "their mean, relative to the voxel": 0.27 / 27 - 0.27,
        "depth below the rim of the mask": 10, "mean absolute change of the brain": 0.1,
    }  # fmt: skip
    for name, value in values.items():
        assert found[name][middle] == pytest.approx(value, rel=1e-3), name
    sides, *others = FEATURES[-3:]
    assert found[sides][[0, middle, -1]].tolist() == pytest.approx([1, 1 / 19, 1])  # the same on the left and the right
    for name in others:
        assert found[name][[0, middle, -1]].tolist() == pytest.approx([-1, 1 / 19, 1]), name
    assert found["mean of the scan around here"][middle] == pytest.approx(0.5, abs=0.01)  # what lies outside is no part
    assert found["mean of the scan around here"][0] == pytest.approx(0.5, abs=0.01)


def test_random_scanners_are_the_drawn_sequences() -> None:
    drawn = uncertainty.random_scanners(12, np.random.default_rng(5))
    again = uncertainty.random_scanners(12, np.random.default_rng(5))
    assert drawn == again
    assert {scanner.ti is None for scanner in drawn} == {True, False}
    g = torch.Generator().manual_seed(int(np.random.default_rng(5).integers(2**31)))
    rows = uncertainty.contrast.t1_weighted(8 * 12 + 64, g)[:12]
    for scanner, row in zip(drawn, rows, strict=True):
        signal = scanner.signal(np.ones(1), np.ones(3))[:, 0]
        expected = levels(row[None], torch.ones(1, 3), torch.ones(1))[0, :, 0].numpy()
        np.testing.assert_allclose(0.7 * signal / signal[2], expected, rtol=1e-3)
    assert not {scanner.name for scanner in drawn} & {scanner.name for scanner in scanners.SCANNERS}


def test_it_learns_which_errors_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors that grow with roughness and fall with depth, each a draw from a normal distribution of that width."""
    monkeypatch.setattr(uncertainty, "STEPS", 600)
    g = torch.Generator().manual_seed(0)

    def draw(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        features = 5 + 2 * torch.randn(count, len(FEATURES), generator=g)
        width = 0.02 * torch.exp(0.4 * (features[:, 5] - features[:, 8]) / 2)
        return features, (width * torch.randn(count, generator=g)).abs()

    network = uncertainty._fit(*draw(20_000), seed=1)
    features, errors = draw(5000)
    ranks = uncertainty._ranks(network, [(features.numpy(), errors.numpy())])
    width = features[:, 5] - features[:, 8]
    possible = stats.spearmanr(width, errors).statistic
    assert ranks["network"] == pytest.approx(possible, abs=0.03)
    assert abs(ranks["spread"]) < 0.05
    with torch.no_grad():
        assert network(features).mean().item() == pytest.approx(errors.mean().item(), rel=0.05)


def test_a_bundle_harmonizes_travelers_and_the_network_is_kept(
    bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = [someone(number, core) for number, core in enumerate((0.5, 0.7, 0.6, 0.65))]
    monkeypatch.setattr(uncertainty, "STEPS", 20)
    bundle = load_bundle(bundle_folder)
    network, ranks = uncertainty.train_error(people[:3], people[3:], bundle, tmp_path)
    assert set(ranks) == {"network", "spread", "histogram"}
    assert np.isfinite(list(ranks.values())).all()
    again, same = uncertainty.train_error([], [], bundle, tmp_path)
    assert same == ranks
    for name, value in network.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])


def test_errors_are_never_negative() -> None:
    network = ErrorNet()
    for parameter in network.parameters():
        parameter.data.zero_()
    network.layers[-1].bias.data.fill_(np.log(LEAST / 2))
    assert network(torch.randn(5, len(FEATURES))).tolist() == [0] * 5
