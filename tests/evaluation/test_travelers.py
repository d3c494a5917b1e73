from __future__ import annotations

import json
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import ndimage

pytest.importorskip("sklearn", reason="the judge needs the extra `train`")

from imunity_bids.cli.evaluate import main
from imunity_bids.evaluation import baselines, sites, travelers
from imunity_bids.metrics.volumes import tissue_volumes
from imunity_bids.models.card import find_bundle
from imunity_bids.simulation import persons, scanners, visits
from imunity_bids.simulation.sequences import mprage, spgr

T = torch.tensor


def ball(seed: int = 0, size: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """A brain-like volume: white core, gray rim, CSF around and in the middle; and its mask."""
    rng = np.random.default_rng(seed)
    grid = np.indices((size,) * 3) - (size - 1) / 2 + 2 * rng.standard_normal((3, 1, 1, 1))
    radius = np.sqrt((grid**2).sum(0)) / size + 0.02 * np.cos(grid[0] / 3) * np.cos(grid[1] / 3)
    mask = radius < 0.42
    tissue = np.select([radius < 0.08, radius < 0.27, radius < 0.37], [0.2, 0.7, 0.5], 0.2) * mask
    smooth = ndimage.gaussian_filter(tissue, 0.6) + 0.01 * rng.standard_normal(mask.shape)
    return (np.clip(smooth, 0.01, 1) * mask).astype(np.float32), mask


def made_of(brain: np.ndarray, mask: np.ndarray, name: str = "sub-1") -> persons.Person:
    """A person whose fractions are known: no Atropos."""
    levels = np.array([0.2, 0.5, 0.7])
    nearest = np.abs(brain[None] - levels[:, None, None, None]).argmin(axis=0)
    fractions = (nearest[None] == np.arange(3)[:, None, None, None]) * mask
    return persons.Person(name, np.eye(4), fractions.astype(np.float32), np.zeros(brain.shape, np.float32), mask)


def test_spgr_at_the_ernst_angle_is_largest() -> None:
    t1, tr = T(1000.0), T(20.0)
    angles = torch.linspace(1, 90, 891)
    ernst = torch.rad2deg(torch.arccos(torch.exp(-tr / t1)))
    assert angles[spgr(t1, tr, angles).argmax()] == pytest.approx(float(ernst), abs=0.1)


def test_mprage_is_its_simulation_pulse_by_pulse() -> None:
    t1, delay, readouts, spacing, recovery, flip = 900.0, 300.0, 100, 7.0, 500.0, 9.0
    angle = np.deg2rad(flip)
    m = 1.0
    for _ in range(30):  # repetitions until the steady state
        m = 1 - (1 + m) * np.exp(-delay / t1)  # inversion, then recovery
        for pulse in range(readouts):
            if pulse == readouts // 2:
                signal = abs(m) * np.sin(angle)
            m = 1 - (1 - m * np.cos(angle)) * np.exp(-spacing / t1)
        m = 1 - (1 - m) * np.exp(-recovery / t1)
    closed = mprage(T(t1), T(delay), T(float(readouts)), T(spacing), T(recovery), T(flip))
    assert float(closed) == pytest.approx(signal, rel=1e-4)


def test_scanners_are_t1_weighted_and_far_apart() -> None:
    gray_to_white = []
    for scanner in scanners.SCANNERS:
        csf, gray, white = scanner.signal(np.ones((1, 1, 1)), np.ones(3)).ravel()
        assert csf < gray < white, scanner.name
        gray_to_white.append(gray / white)
    assert np.ptp(gray_to_white) > 0.25


def test_the_truth_has_neither_noise_nor_field_and_a_visit_repeats() -> None:
    someone = made_of(*ball())
    scanner = scanners.SCANNERS[3]  # without blur
    scan, truth = visits.traveler(someone, scanner, 1)
    again, _ = visits.traveler(someone, scanner, 1)
    other, _ = visits.traveler(someone, scanner, 2)
    white = ndimage.binary_erosion(someone.fractions[2] > 0, iterations=2)
    assert np.ptp(truth[white]) < 1e-6
    assert truth[white].mean() == pytest.approx(0.7, abs=1e-6)
    assert scan[white].std() > 0.01
    assert np.array_equal(scan, again)
    assert not np.array_equal(scan, other)


def test_atropos_takes_a_brain_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    brain, mask = ball()
    someone = persons.person("sub-1", nib.Nifti1Image(brain, np.eye(4)), mask)
    np.testing.assert_allclose(someone.fractions.sum(0)[mask], 1, atol=1e-4)
    white = ndimage.binary_erosion(brain > 0.62, iterations=1)
    assert someone.fractions[2][white].mean() > 0.95
    assert not list(tmp_path.iterdir())  # Atropos leaves three images a brain
    assert tempfile.tempdir == str(tmp_path)


def test_histogram_matching_and_nyul_bring_the_same_brain_back() -> None:
    brain, mask = ball()
    dark = (np.clip(brain, 0, 1) ** 1.5).astype(np.float32)
    for back in (
        baselines.histogram_matching(dark, mask, brain),
        baselines.nyul(dark, mask, [brain]),
        baselines.tissue_curve(dark, mask, brain),
        baselines.best_curve(dark, mask, brain),
    ):
        # percentile landmarks and tissue means are joined by straight lines: not exact between them
        assert np.abs(back - brain)[mask].mean() < 0.015 < np.abs(dark - brain)[mask].mean()


def test_volumes_of_tissues_do_not_depend_on_the_scale_of_contrast() -> None:
    brain, mask = ball()
    before = tissue_volumes(brain, mask)
    after = tissue_volumes(np.where(mask, 0.2 + 0.7 * brain, 0).astype(np.float32), mask)
    assert before["white"] == pytest.approx((brain > 0.6).sum(), rel=0.05)
    for tissue in ("gray", "white"):
        assert after[tissue] == pytest.approx(before[tissue], rel=0.01)


def test_the_classifier_tells_scanners_that_differ_and_not_those_that_do_not() -> None:
    rows = []
    for number in range(8):
        brain, mask = ball(number)
        for site, power in (("a", 1.0), ("b", 1.4)):
            rows.append({"person": f"{number}", "site": site, "method": "raw"})
            rows[-1] |= sites.intensity_and_texture((brain**power).astype(np.float32), mask)
    table = pd.DataFrame(rows)
    assert sites.site_accuracy(table) > 0.9
    same = table.copy()
    same.loc[same.site == "b", same.columns[3:]] = same.loc[same.site == "a", same.columns[3:]].to_numpy()
    assert sites.site_accuracy(same) <= 0.5  # the pairs are alike: whatever is said is right for one of the two


def test_the_command_writes_table_plot_and_summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (1, 2, 3):
        brain, mask = ball(number)
        stem = f"sub-{number}_space-X_res-1_desc"
        folder = tmp_path / "deriv" / f"sub-{number}" / "anat"
        folder.mkdir(parents=True)
        nib.Nifti1Image(brain, np.eye(4)).to_filename(folder / f"{stem}-preproc_T1w.nii.gz")
        nib.Nifti1Image(mask.astype(np.uint8), np.eye(4)).to_filename(folder / f"{stem}-brain_mask.nii.gz")
    monkeypatch.setattr(travelers.evaluate_travelers, "__defaults__", (1, 1, scanners.SCANNERS[:2]))
    arguments = ["travelers", str(tmp_path / "out"), "--brains", str(tmp_path / "deriv")]
    assert main(arguments) == 0
    summary = json.loads((tmp_path / "out/travelers.json").read_text())
    table = pd.read_csv(tmp_path / "out/travelers.tsv", sep="\t")
    assert len(table) == 3 * 4 * 7  # persons, directions, methods and the truth
    assert {*summary["travels"], travelers.TRUTH} == set(table.method) == set(summary["site_accuracy"])
    assert summary["truth"]["gradient_correlation"] < 0.99  # the scanners differ in contrast: so do their edges
    assert summary["travels"]["raw"]["gradient_correlation"] == pytest.approx(1)
    bound = summary["travels"][travelers.BOUND]["mae"]
    assert all(bound <= scores["mae"] + 1e-3 for name, scores in summary["travels"].items() if name != travelers.OURS)
    assert (tmp_path / "out/travelers.png").stat().st_size > 10_000


def test_pairs_of_real_scans(tmp_path: Path) -> None:
    paths = []
    for name, power, seed in (("source", 1.0, 1), ("target", 1.3, 1), ("reference", 1.3, 2)):
        paths.append(tmp_path / f"{name}.nii.gz")
        nib.Nifti1Image((ball(seed)[0] ** power).astype(np.float32), np.eye(4)).to_filename(paths[-1])
    pd.DataFrame([paths], columns=["source", "target", "reference"]).to_csv(tmp_path / "p.tsv", sep="\t", index=False)
    table = travelers.evaluate_pairs(tmp_path / "p.tsv", find_bundle("imunity"), tmp_path / "out").set_index("method")
    assert table.loc["histogram matching", "mae"] < table.loc["raw", "mae"]


def test_one_brain_is_too_few(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["travelers", str(tmp_path / "out"), "--brains", str(tmp_path)]) == 66
    assert "two are needed at least" in capsys.readouterr().err


def test_real_sites_before_and_after(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two sites that differ by a γ before and by nothing after."""
    for site, power in (("A", 1.0), ("B", 1.5)):
        for number in range(6):
            brain, mask = ball(number + 10 * (site == "B"), size=32)
            stem = tmp_path / site / f"sub-{number}" / "anat" / f"sub-{number}_space-T_res-1_"
            stem.parent.mkdir(parents=True)
            for name, data in (("preproc_T1w", brain**power), ("harmonized_T1w", brain), ("brain_mask", mask)):
                nib.Nifti1Image(data.astype(np.float32), np.eye(4)).to_filename(f"{stem}desc-{name}.nii.gz")
    assert main(["sites", str(tmp_path / "out"), str(tmp_path / "A"), str(tmp_path / "B")]) == 0
    summary = json.loads((tmp_path / "out" / "sites.json").read_text())
    assert summary["accuracy"]["before"] == 1
    assert summary["accuracy"]["after"] <= 0.85  # 12 images: chance, give or take
    contrast = summary["gray_white_contrast"]
    assert contrast["after"]["A"]["mean"] == pytest.approx(contrast["after"]["B"]["mean"], rel=0.1)
    assert contrast["before"]["B"]["mean"] > 1.2 * contrast["before"]["A"]["mean"]
    assert main(["sites", str(tmp_path / "out"), str(tmp_path / "A")]) == 64
    assert main(["sites", str(tmp_path / "out"), str(tmp_path / "A"), str(tmp_path)[:-1]]) == 66
