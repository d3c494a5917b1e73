from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

pytest.importorskip("monai", reason="training needs the extra `train`")

from imunity_bids.cli.train import build_parser
from imunity_bids.errors import InputMissing
from imunity_bids.image.brain_mask import load_network
from imunity_bids.training.brain import BrainTraining, export_brain, train_brain
from tests.simulation.test_heads import head_labels


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("maps")
    for index in range(2):
        nib.Nifti1Image(head_labels(), np.diag([3.0, 3, 3, 1])).to_filename(folder / f"head_{index}.nii.gz")
    return folder


def setup(maps: Path, output: Path, steps: int) -> BrainTraining:
    return BrainTraining(
        maps, output, steps=steps, every=2, holdout=1, validation_heads=1, workers=0, shape=(48, 48, 48), widths=(4, 8)
    )


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the trainer catches it."""


def test_a_killed_run_goes_on_to_the_same_weights(maps: Path, tmp_path: Path) -> None:
    whole = train_brain(setup(maps, tmp_path / "whole", 6))

    def kill(step: int) -> None:
        if step == 4:  # after the checkpoint of step 2, before that of step 4
            raise Killed

    broken = setup(maps, tmp_path / "broken", 6)
    with pytest.raises(Killed):
        train_brain(broken, watch=kill)
    resumed = train_brain(broken)
    undisturbed, again = (torch.load(p.with_name("last.pt"), weights_only=True) for p in (whole, resumed))
    for kind in ("network", "average"):
        assert all(torch.equal(value, again[kind][name]) for name, value in undisturbed[kind].items())
    assert [int(row["step"]) for row in _rows(tmp_path / "broken")] == [2, 4, 6]
    assert (tmp_path / "broken" / "curves.png").stat().st_size > 1000


def test_what_is_exported_is_what_the_app_loads(maps: Path, tmp_path: Path) -> None:
    plan = setup(maps, tmp_path, 2)
    folder = export_brain(train_brain(plan), plan)
    network = load_network(folder)
    best = torch.load(tmp_path / "best.pt", weights_only=True)["weights"]
    for name, value in network.state_dict().items():
        assert torch.allclose(value, best[name], atol=1e-3)  # half precision
    command = json.loads((folder / "card.json").read_text())["training"]["command"].split()
    options = vars(build_parser().parse_args(command[1:]))
    not_options = {"maps", "output", "shape", "widths"}
    assert all(options[name] == value for name, value in vars(plan).items() if name not in not_options)


def test_too_few_maps_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputMissing, match="label maps"):
        train_brain(setup(tmp_path, tmp_path, 2))


@pytest.mark.slow
def test_five_minutes_of_training_survive_a_kill_and_learn(data: Path, tmp_path: Path) -> None:
    """The command on the real label maps, killed by SIGKILL on its way and called again."""
    options = ["--steps", "150", "--every", "25", "--validation-heads", "4"]
    call = [sys.executable, "-m", "imunity_bids.cli.train", "brain", data / "synthseg-label-maps", tmp_path, *options]
    first = subprocess.Popen(call, start_new_session=True, stderr=subprocess.DEVNULL)
    while first.poll() is None and (not (tmp_path / "log.csv").exists() or len(_rows(tmp_path)) < 3):
        time.sleep(0.5)
    assert first.poll() is None, "ended before it could be killed"
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    reached = int(_rows(tmp_path)[-1]["step"])
    subprocess.run(call, check=True, stderr=subprocess.DEVNULL)
    rows = _rows(tmp_path)
    assert [int(row["step"]) for row in rows] == list(range(25, 151, 25))
    assert 75 <= reached < 150
    assert float(rows[-1]["loss"]) < 0.8 * float(rows[0]["loss"])
    assert float(rows[-1]["dice"]) > 0.6
    assert (tmp_path / "model" / "card.json").is_file()


def _rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "log.csv") as file:
        return list(csv.DictReader(file))
