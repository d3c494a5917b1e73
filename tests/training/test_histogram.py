from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn", reason="training needs the extra `train`")

from imunity_bids.models.histogram import HistogramNet
from imunity_bids.training import histogram
from imunity_bids.training.dataset import Brain
from tests.simulation.people import toy_person


def test_the_network_starts_as_matching() -> None:
    torch.manual_seed(0)
    own, reference = torch.rand(2, 4, 101).sort(dim=2).values
    matched, error = HistogramNet()(own, reference)
    torch.testing.assert_close(matched, reference, atol=0.02, rtol=0)
    assert (error > 0).all()


def brain(number: int, core: float, name: str = "sub-01_T1w.nii.gz") -> Brain:
    """What a scan of `toy_person` looks like after preprocessing."""
    person = toy_person(number, core)
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
    held_out = [brains[2], brains[7]]
    training = [each for number, each in enumerate(brains) if number not in (2, 7)]
    _, errors = histogram.train_histogram(training, held_out, tmp_path, visits=400, steps=400)
    assert errors["matching"] < errors["untouched"]
    assert errors["network"] < 0.7 * errors["matching"]
    assert len(list(tmp_path.glob("*.npz"))) == 10
    assert histogram.train_histogram(training, held_out, tmp_path)[1] == errors  # the network is read from the folder
