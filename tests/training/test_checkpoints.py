"""What all trainers share: the moving average of weights, checkpoints, the log."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from torch import nn

from imunity_bids.errors import DataUnusable
from imunity_bids.training.checkpoints import Run, weights_to_start_with
from imunity_bids.unlearning.averages import moving_average


class Counter(nn.Module):
    """One weight, one buffer of floats and one of integers, all of the same value."""

    def __init__(self, value: float):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(value))
        self.register_buffer("level", torch.tensor(value))
        self.register_buffer("count", torch.tensor(int(value)))


def test_the_first_steps_count_more_and_integers_are_copied() -> None:
    average = moving_average(Counter(0.0))
    rest = 1.0  # of the start
    for step in range(1, 31):
        average.update_parameters(Counter(5.0))
        rest *= step / (step + 10)
        expected = 5 * (1 - rest)
        assert average.module.weight.item() == pytest.approx(expected, rel=1e-5)  # float32
        assert average.module.level.item() == pytest.approx(expected, rel=1e-5)
        assert average.module.count.item() == 5


def test_later_steps_count_one_in_a_thousand() -> None:
    average = moving_average(Counter(0.0))
    average.n_averaged.fill_(50_000)
    average.update_parameters(Counter(1.0))
    assert average.module.weight.item() == pytest.approx(0.001, rel=1e-3)  # 1 - 0.999 in float32


def test_an_average_read_from_a_checkpoint_stays_where_the_network_is() -> None:
    """Checkpoints are read to the CPU. `meta` stands for a GPU: an operation across devices fails there, too."""
    stored = moving_average(nn.Linear(3, 2)).state_dict()
    network = nn.Linear(3, 2, device="meta")
    average = moving_average(network)
    with pytest.warns(UserWarning, match="no-op"):  # meta has no values to copy to
        average.load_state_dict(stored)
    average.update_parameters(network)
    assert {value.device.type for value in average.module.state_dict().values()} == {"meta"}


def test_a_checkpoint_gives_back_average_log_and_time(tmp_path: Path) -> None:
    run, average = Run(tmp_path), moving_average(Counter(2.0))
    average.update_parameters(Counter(4.0))
    run.record(step=1, loss=0.5)
    run.save_average(average, {"step": 1}, best=True)
    run.record(step=2, loss=0.4)  # lost: never saved

    again, restored = Run(tmp_path), moving_average(Counter(0.0))
    state = again.load()
    restored.load_state_dict(state["average"])
    assert restored.n_averaged == average.n_averaged == 2
    assert torch.equal(restored.module.weight, average.module.weight)
    assert again.rows == [{"step": 1, "loss": 0.5}]
    assert again.seconds >= again.seconds_before > 0
    assert torch.equal(weights_to_start_with(tmp_path / "best.pt")["weight"], average.module.weight)
    with open(tmp_path / "log.csv") as file:
        assert list(csv.DictReader(file)) == [{"step": "1", "loss": "0.5"}]


def test_a_new_folder_has_no_checkpoint(tmp_path: Path) -> None:
    assert Run(tmp_path / "new").load() is None


def test_a_checkpoint_of_an_earlier_version_is_refused(tmp_path: Path) -> None:
    torch.save({"step": 3, "average": {"weight": torch.ones(1)}, "rows": [], "seconds": 1.0}, tmp_path / "last.pt")
    with pytest.raises(DataUnusable, match="earlier version"):
        Run(tmp_path).load()
