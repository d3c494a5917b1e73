from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn", reason="training needs the extra `train`")

from scipy import stats

from imunity_bids.models.bundle import load_bundle
from imunity_bids.models.uncertainty import EXPECTED, FEATURES, LEAST, SPREAD, ErrorNet, describe
from imunity_bids.simulation.persons import Person
from imunity_bids.training import uncertainty
from tests.simulation.people import toy_person


def test_features_are_what_they_are_called(rng: np.random.Generator) -> None:
    mask = np.zeros((24, 24, 24), bool)
    mask[2:22, 2:22, 2:22] = True
    scan = np.where(mask, 0.5, 0).astype(np.float32)
    scan[12, 12, 12] = 0.77
    harmonized = (scan + 0.1 * mask).astype(np.float32)
    spread, expected = (rng.uniform(0, 1, mask.shape).astype(np.float32) for _ in range(2))
    features = dict(zip(FEATURES, describe(scan, harmonized, spread, expected, mask).T, strict=True))
    middle = np.flatnonzero(np.flatnonzero(mask) == np.ravel_multi_index((12, 12, 12), mask.shape))[0]
    values = {
        "scan": 0.77, "harmonized": 0.87, "change": 0.1, "spread of the axes": spread[12, 12, 12],
        "error that the histogram network expects": expected[12, 12, 12],
        "standard deviation of the scan over 27 voxels": 0.27 * np.sqrt(26) / 27,
        "their mean, relative to the voxel": 0.27 / 27 - 0.27,
        "depth below the rim of the mask": 10, "mean absolute change of the brain": 0.1,
    }  # fmt: skip
    for name, value in values.items():
        assert features[name][middle] == pytest.approx(value, rel=1e-3), name
    sides, *others = FEATURES[-3:]
    assert features[sides][[0, middle, -1]].tolist() == pytest.approx(
        [1, 1 / 19, 1]
    )  # the same on the left and the right
    for name in others:
        assert features[name][[0, middle, -1]].tolist() == pytest.approx([-1, 1 / 19, 1]), name
    assert features["mean of the scan around here"][middle] == pytest.approx(
        0.5, abs=0.01
    )  # what lies outside is no part
    assert features["mean of the scan around here"][0] == pytest.approx(0.5, abs=0.01)


def test_it_learns_which_errors_are_large() -> None:
    """Errors that grow with roughness and fall with depth, each a draw from a normal distribution of that width."""
    g = torch.Generator().manual_seed(0)

    def draw(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        features = 5 + 2 * torch.randn(count, len(FEATURES), generator=g)
        width = 0.02 * torch.exp(0.4 * (features[:, 5] - features[:, 8]) / 2)
        return features, (width * torch.randn(count, generator=g)).abs()

    network = uncertainty.fit_error_network(*draw(20_000), seed=1, steps=500)
    features, errors = draw(5000)
    ranks = uncertainty.rank_correlations(network, [uncertainty.VoxelErrors(features.numpy(), errors.numpy())])
    width = features[:, 5] - features[:, 8]
    possible = stats.spearmanr(width, errors).statistic
    assert ranks["network"] == pytest.approx(possible, abs=0.03)
    assert abs(ranks["spread"]) < 0.05  # three standard errors of 5000 voxels that have nothing to do with it
    with torch.no_grad():
        assert network(features).mean().item() == pytest.approx(errors.mean().item(), rel=0.05)


def test_rank_correlations_are_means_over_brains() -> None:
    """Spread and expectation tell the order in one brain and the reverse in the other."""
    features = np.zeros((2, 50, len(FEATURES)), np.float32)
    features[0, :, SPREAD] = features[1, :, EXPECTED] = np.arange(50)
    features[1, :, SPREAD] = -np.arange(50)
    errors = np.arange(50, dtype=np.float32)
    ranks = uncertainty.rank_correlations(ErrorNet(), [uncertainty.VoxelErrors(each, errors) for each in features])
    assert ranks["spread"] == 0  # 1 and -1
    assert ranks["histogram"] == 0.5  # 0, being constant, and 1


@pytest.fixture(scope="module")
def people() -> list[Person]:
    return [toy_person(number, core) for number, core in enumerate((0.5, 0.7, 0.6, 0.65))]


def test_a_bundle_harmonizes_travelers_and_the_network_is_kept(
    bundle_folder: Path, tmp_path: Path, people: list[Person]
) -> None:
    bundle = load_bundle(bundle_folder)
    network, ranks = uncertainty.train_error(people[:3], people[3:], bundle, tmp_path, steps=20)
    assert set(ranks) == {"network", "spread", "histogram"}
    assert all(-1 <= rank <= 1 for rank in ranks.values())
    again, same = uncertainty.train_error([], [], bundle, tmp_path)
    assert same == ranks
    for name, value in network.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])


def test_errors_are_those_of_the_harmonized_brains(bundle_folder: Path, people: list[Person]) -> None:
    """A person who is alone, on his or her own scanner or another one; the untrained bundle hardly changes a scan."""
    brains = uncertainty.harmonized_travelers(people[:1], load_bundle(bundle_folder), seed=3)
    assert len(brains) == uncertainty.DIRECTIONS
    scan, harmonized, change = (FEATURES.index(name) for name in ("scan", "harmonized", "change"))
    for features, errors in brains:
        assert features.shape == (uncertainty.VOXELS, len(FEATURES))
        np.testing.assert_allclose(features[:, harmonized] - features[:, scan], features[:, change], atol=1e-6)
        assert (errors >= 0).all()
        assert errors.max() <= 1
    again = uncertainty.harmonized_travelers(people[:1], load_bundle(bundle_folder), seed=3)
    for first, second in zip(brains, again, strict=True):
        np.testing.assert_array_equal(first.errors, second.errors)


def test_errors_are_never_negative() -> None:
    network = ErrorNet()
    for parameter in network.parameters():
        parameter.data.zero_()
    network.layers[-1].bias.data.fill_(np.log(LEAST / 2))
    assert network(torch.randn(5, len(FEATURES))).tolist() == [0] * 5
