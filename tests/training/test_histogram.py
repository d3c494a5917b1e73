from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn", reason="training needs the extra `train`")

from imunity_bids.models.histogram import HistogramNet
from imunity_bids.simulation.histograms import levels, simulate_visits, truth
from imunity_bids.training import histogram
from imunity_bids.training.slices import Brain
from tests.simulation.people import someone


def test_parts_are_fractions_and_texture_between_neighbours_in_contrast() -> None:
    person = someone(0)
    level = np.array([0.2, 0.5, 0.7])
    darker = np.clip(person.fractions[0] + 0.5 * person.fractions[1], 0, 1)
    expected = np.tensordot(level, person.fractions, 1) + person.texture * (0.3 * darker + 0.2 * (1 - darker))
    np.testing.assert_allclose(np.tensordot(level, person.parts, 1), expected, atol=1e-6)


def test_visits_come_in_pairs_and_repeat() -> None:
    people = [someone(0, 0.5), someone(1, 0.7)]
    visits, again = simulate_visits(people, 20, 3), simulate_visits(people, 20, 3)
    assert all(torch.equal(a, b) for a, b in zip(visits, again, strict=True))
    torch.testing.assert_close(visits.sequence[::2], visits.sequence[1::2])
    assert (visits.person[::2] != visits.person[1::2]).all()
    assert (visits.quantiles.diff(dim=1) >= 0).all()
    assert visits.quantiles.min() >= 0 and visits.quantiles.max() <= 1
    white = levels(visits.sequence, visits.t1, torch.tensor([0.8, 1.0, 1.2]))[:, 2]
    torch.testing.assert_close(white, torch.full_like(white, 0.7))


def test_the_truth_of_a_visit_on_its_own_scanner_is_the_visit_but_for_noise_and_fields() -> None:
    visits = simulate_visits([someone(0), someone(1)], 40, 3)
    here = torch.arange(40)
    partner_unit = visits.unit[here ^ 1] / visits.unit  # the unit is that of the other person's visit
    mean, scatter = truth(visits, here, here)
    own = mean / partner_unit[:, None]
    middle = slice(10, 91)  # noise spreads the ends
    assert (own - visits.quantiles)[:, middle].abs().mean() < 0.03
    assert 0.005 < scatter[:, middle].mean() < 0.03  # noise and partial volume, of the order of the noise simulated


def test_the_network_starts_as_matching() -> None:
    torch.manual_seed(0)
    own, reference = torch.rand(2, 4, 101).sort(dim=2).values
    made, error = HistogramNet()(own, reference)
    torch.testing.assert_close(made, reference, atol=0.02, rtol=0)
    assert (error > 0).all()


def brain(number: int, core: float, name: str = "sub-01_T1w.nii.gz") -> Brain:
    """What a scan of `someone` looks like after preprocessing."""
    person = someone(number, core)
    volume = np.tensordot((0.2, 0.5, 0.7), person.parts, 1).clip(0.01, 1) * person.mask
    return Brain(name, 0, torch.from_numpy(volume).half())


def test_two_brains_of_one_name_are_two_persons(tmp_path: Path) -> None:
    """Two folders merged into one site by a column of participants.tsv have a sub-01 each."""
    small, large = brain(1, 0.45), brain(2, 0.75)
    whites = []
    for _ in range(2):  # made, then read from the folder
        whites.append([p.fractions[2].sum() for p in histogram.make_people([small, large], tmp_path, 1)])
        assert len(list(tmp_path.glob("*.npz"))) == 2
    assert whites[0][0] < 0.5 * whites[0][1]  # (0.45 / 0.75)³ = 0.22
    np.testing.assert_allclose(whites[1], whites[0], rtol=1e-3)  # kept in half precision
    coarse = replace(small, zooms=(2.0, 2.0, 2.0))
    histogram.make_people([coarse, replace(small, name="sub-99_T1w.nii.gz", site=3)], tmp_path, 1)
    assert len(list(tmp_path.glob("*.npz"))) == 3  # another voxel size is another brain, another name is not


def test_it_learns_that_persons_differ_in_their_volumes(tmp_path: Path) -> None:
    """White cores of many sizes: plain matching takes the volumes over, the network, seeing new persons, less."""
    brains = [brain(number, core) for number, core in enumerate(np.linspace(0.45, 0.75, 10))]
    judges = [brains[2], brains[7]]
    training = [each for number, each in enumerate(brains) if number not in (2, 7)]
    _, errors = histogram.train_histogram(training, judges, tmp_path, visits=400, steps=400)
    assert errors["matching"] < errors["untouched"]
    assert errors["network"] < 0.7 * errors["matching"]
    files = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.npz")}
    assert len(files) == 10
    assert histogram.train_histogram(training, judges, tmp_path)[1] == errors  # the network is read from the folder
    (tmp_path / "network.pt").unlink()
    _, again = histogram.train_histogram(training, judges, tmp_path, visits=400, steps=400)
    assert again == pytest.approx(errors, abs=2e-3)  # persons are kept in half precision
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.npz")} == files  # and read
