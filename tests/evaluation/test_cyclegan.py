"""The comparator CycleGAN, and the contest of two simulated scanners."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from imunity_bids.cli.evaluate import main
from imunity_bids.evaluation import cyclegan
from imunity_bids.evaluation.cyclegan import CycleGan, train_cyclegan, translate
from imunity_bids.evaluation.travelers import TRUTH
from imunity_bids.evaluation.two_scanners import RAW, SECOND, summarise
from tests.simulation.test_cohort import maps as maps  # a fixture

TINY = CycleGan(steps=60, width=4, blocks=1, every=20, rate=2e-3)  # the rate of the paper would need thousands


def disks(level: float) -> torch.Tensor:
    """Slices of one tissue, (8, 1, 32, 32)."""
    distance = np.hypot(*(np.indices((32, 32)) - 15.5))
    radii = np.linspace(8, 14, 8)[:, None, None, None]
    return torch.from_numpy(level * (distance < radii)).float()


def test_one_level_becomes_the_other_and_nothing_is_done_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dark, bright = disks(0.4), disks(0.8)
    translator, seconds = train_cyclegan(dark, bright, TINY, tmp_path)
    inside = dark > 0
    with torch.inference_mode():
        moved = translator(dark)
    assert float((moved - 0.8)[inside].abs().mean()) < 0.2  # half of the way at least
    assert (moved[~inside] == 0).all()
    monkeypatch.setattr(cyclegan, "_step", lambda *_: pytest.fail("done before"))
    again, same = train_cyclegan(dark, bright, TINY, tmp_path)
    with torch.inference_mode():
        torch.testing.assert_close(again(dark), moved)
    assert same == seconds


def test_a_killed_training_ends_as_one_that_was_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = train_cyclegan(disks(0.4), disks(0.8), TINY, tmp_path / "whole")
    step = cyclegan._step

    def killed(*words: object) -> dict[str, float]:
        if words[-1] == 50:
            raise KeyboardInterrupt
        return step(*words)

    monkeypatch.setattr(cyclegan, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        train_cyclegan(disks(0.4), disks(0.8), TINY, tmp_path / "killed")
    monkeypatch.setattr(cyclegan, "_step", step)
    resumed, _ = train_cyclegan(disks(0.4), disks(0.8), TINY, tmp_path / "killed")
    for name, weights in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], weights, msg=name)


def test_a_brain_of_any_size_is_translated_slice_by_slice() -> None:
    brain = np.random.default_rng(1).uniform(0.1, 1, (13, 15, 5)).astype(np.float32)
    mask = np.ones(brain.shape, bool)
    mask[:2] = False
    found = translate(cyclegan.Translator(4, 1).eval(), brain, mask)
    assert found.shape == brain.shape
    assert found[mask].min() >= 0 and found[mask].max() <= 1
    assert (found[~mask] == 0).all()


def test_a_method_that_leaves_the_scanner_is_told_and_one_that_takes_it_is_not() -> None:
    rng = np.random.default_rng(1)
    rows = []
    for person in range(24):
        about = {"person": f"p{person}", "family": f"m{person % 8}", "psnr": 20.0, "mae": 0.01 * person}
        own = rng.standard_normal(2)
        for method, shift in (("as it is", 4.0), ("perfect", 0.0), (SECOND, 0.0)):
            noise = 0.1 * rng.standard_normal(2)
            values = dict(zip(("f_a", "f_b"), own + noise + shift, strict=True))
            rows.append({**about, "method": method, "ssim": 0.9, **values})
    found = summarise(pd.DataFrame(rows)).set_index("method")
    assert found.scanner["as it is"] > 0.95
    assert found.scanner["perfect"] < 0.7  # guessing is 0.5
    assert found.mae["perfect"] == pytest.approx(0.115)
    low, high = map(float, found["mae interval"]["perfect"].split(" to "))
    assert high - 0.115 == pytest.approx(2.069 * np.std(0.01 * np.arange(24), ddof=1) / np.sqrt(24), rel=0.01)
    assert low == pytest.approx(0.23 - high, abs=1e-4)


def test_the_command(maps: Path, bundle_folder: Path, tmp_path: Path) -> None:
    words = ["--maps", maps, "--scanners", "SPGR-3T", "MPRAGE-1.5T", "--persons", 9, "--held-out", 2, "--spacing", 6]
    words += ["--steps", 2, "--seeds", 2, "--seed", 3, "--model", bundle_folder]
    assert main(["two-scanners", *(str(word) for word in [tmp_path / "out", *words])]) == 0
    table = pd.read_csv(tmp_path / "out" / "two_scanners.tsv", sep="\t").set_index("method")
    assert list(table.index)[-3:] == ["CycleGAN, seed 0", "CycleGAN, seed 1", TRUTH]
    assert (table.persons == 6).all()
    assert np.isnan(table.mae[TRUTH])
    assert table.mae["histogram matching"] < table.mae[RAW]
    assert table["seconds of training"].notna().sum() == 2
    about = json.loads((tmp_path / "out" / "two_scanners.json").read_text())
    assert about["scanners"] == ["SPGR-3T", "MPRAGE-1.5T"]
    assert main(["two-scanners", str(tmp_path), "--maps", str(maps), "--scanners", "SPGR-3T", "SPGR-3T"]) == 64
