"""The evaluation with traveling subjects, on toy brains."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from imunity_bids.cli.evaluate import main
from imunity_bids.errors import Usage
from imunity_bids.evaluation import travelers, traveling_pairs
from imunity_bids.models.card import find_bundle
from imunity_bids.simulation.scanners import SCANNERS
from tests.simulation.people import ball_brain


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, bundle_folder: Path) -> Path:
    """The command on three toy brains and two scanners."""
    folder = tmp_path_factory.mktemp("travelers")
    for number in (1, 2, 3):
        brain, mask = ball_brain(number, 32)
        anat = folder / "deriv" / f"sub-{number}" / "anat"
        anat.mkdir(parents=True)
        for name, data in (("preproc_T1w", brain), ("brain_mask", mask.astype(np.uint8))):
            nib.Nifti1Image(data, np.eye(4)).to_filename(anat / f"sub-{number}_space-X_res-1_desc-{name}.nii.gz")
    names = [scanner.name for scanner in SCANNERS[:2]]
    arguments = ["--brains", str(folder / "deriv"), "--model", str(bundle_folder), "--references", "1"]
    arguments += ["--scanners", *names]
    assert main(["travelers", str(folder / "out"), *arguments]) == 0
    return folder


def test_every_person_goes_every_way_by_every_method(done: Path) -> None:
    table = pd.read_csv(done / "out" / "travelers.tsv", sep="\t")
    assert len(table) == 3 * 4 * 8  # persons, directions, methods, bounds and the truth
    assert table.groupby(["person", "source", "target"]).method.nunique().eq(8).all()
    assert set(table.source) == {scanner.name for scanner in SCANNERS[:2]}


def test_the_summary_is_that_of_the_table(done: Path) -> None:
    table = pd.read_csv(done / "out" / "travelers.tsv", sep="\t")
    summary = json.loads((done / "out" / "travelers.json").read_text())
    assert {*summary["travels"], travelers.TRUTH} == set(table.method) == set(summary["site_accuracy"])
    between = table[table.source != table.target]
    for method, scores in summary["travels"].items():
        for score, value in scores.items():
            assert value == pytest.approx(between[between.method == method][score].mean(), abs=1e-6), (method, score)
    home = table[(table.source == table.target) & (table.method == travelers.OURS)]
    assert summary["own_scanner"][travelers.OURS]["mae"] == pytest.approx(home.mae.mean(), abs=1e-6)
    ours = table[(table.source != table.target) & (table.method == travelers.OURS)]
    assert summary["uncertainty"]["expected"] == pytest.approx(ours.expected_error.mean(), abs=1e-5)
    assert summary["scanners"] == [scanner.name for scanner in SCANNERS[:2]]
    assert summary["site_chance"] == 0.5


def test_bounds_hold(done: Path) -> None:
    summary = json.loads((done / "out" / "travelers.json").read_text())
    assert summary["truth"]["gradient_correlation"] < 0.99  # the scanners differ in contrast: so do their edges
    assert summary["travels"]["raw"]["gradient_correlation"] == pytest.approx(1)
    bound = summary["travels"][travelers.BOUND]["mae"]  # fitted by least squares: hardly beaten in the mean error
    curves = set(summary["travels"]) - {travelers.OURS, travelers.BOUND, travelers.FLOOR}
    assert all(bound <= summary["travels"][name]["mae"] + 1e-3 for name in curves)


def test_the_truth_is_the_same_for_a_scan_that_stays_on_its_scanner(done: Path) -> None:
    """Even and noiseless, so that a scan is not its own truth; the floor differs from it by another person's T1."""
    table = pd.read_csv(done / "out" / "travelers.tsv", sep="\t")
    home = table[table.source == table.target]
    assert (home[home.method == "raw"].mae > 0.002).all()
    floor = table[table.method == travelers.FLOOR]
    assert floor.mae.between(1e-4, 0.05).all()  # 3 % of T1 between persons, a third of the ball being CSF
    assert floor.groupby(["person", "target"]).mae.nunique().eq(1).all()  # whatever the scan


def test_the_picture_is_one(done: Path) -> None:
    from matplotlib.image import imread

    picture = imread(done / "out" / "travelers.png")
    assert picture.shape[:2] == (500, 1400)
    assert picture[..., :3].std() > 0.05  # not empty


def test_visits_are_used_again_and_made_anew_for_more_scanners(done: Path, bundle_folder: Path) -> None:
    brains = travelers.brains_below(done / "deriv", [])
    files = sorted((done / "out" / "visits").glob("*.npz"))
    before = [file.stat().st_mtime_ns for file in files]
    visits, again = done / "out" / "visits", done / "again"
    again.mkdir()
    (again / "visits").symlink_to(visits)
    travelers.evaluate_travelers(brains[:2], bundle_folder, again, scanners=SCANNERS[:2], references=1)
    assert [file.stat().st_mtime_ns for file in files] == before
    first, second = (pd.read_csv(out / "travelers.tsv", sep="\t") for out in (done / "out", again))
    pd.testing.assert_frame_equal(first[first.person.isin(second.person)].reset_index(drop=True), second)
    summary = travelers.evaluate_travelers(brains[:2], bundle_folder, again, scanners=SCANNERS[1:3])
    assert summary["scanners"] == [scanner.name for scanner in SCANNERS[1:3]]
    assert sum(file.stat().st_mtime_ns != old for file, old in zip(files, before, strict=True)) == 2


def scores(person: str, source: str, target: str, method: str, ssim: float, **more: float) -> dict[str, object]:
    names = ("psnr", "mae", "histogram_distance", "gradient_correlation", "uncertainty_rank", "expected_error")
    about = {"person": person, "source": source, "target": target, "method": method, "ssim": ssim}
    return {**about, **dict.fromkeys((*names, "exchange_slope"), 0.0), **more}


def test_margins_have_an_interval_over_persons() -> None:
    """Gains of 0.1 and 0.3: mean 0.2, standard error 0.1, Student's t of 12.706 for one degree of freedom."""
    rows = []
    for person, gain in (("1", 0.1), ("2", 0.3)):
        for source, target in (("A", "B"), ("B", "A")):
            rows.append(scores(person, source, target, "raw", 0.5))
            rows.append(scores(person, source, target, travelers.OURS, 0.5 + gain, exchange_slope=1 + gain))
        rows.append(scores(person, "A", "A", travelers.OURS, 0.9))
        rows.append(scores(person, "A", "A", "raw", 0.91))
    summary = travelers.summarise(pd.DataFrame(rows))
    margin = summary["ssim_gain"]["raw"]
    assert margin["mean"] == pytest.approx(0.2)
    assert margin["high"] - margin["mean"] == pytest.approx(12.706 * 0.1, rel=1e-4)
    assert margin["mean"] - margin["low"] == pytest.approx(12.706 * 0.1, rel=1e-4)
    assert summary["own_scanner"][travelers.OURS]["ssim"] == pytest.approx(0.9)
    assert summary["exchange_slope"]["mean"] == pytest.approx(1.2)
    assert summary["worst_image"]["gain_over_raw"] == pytest.approx(-0.01)
    assert summary["worse_than_raw"] == {"by_more_than_0.002": 2, "of": 6}


def test_some_ways_of_every_person() -> None:
    """From two scanners, each to two others and to itself; all ways otherwise."""
    ways = travelers._ways(SCANNERS, 2, 1)
    assert len(ways) == 2
    for source, ends in ways.items():
        assert len(set(ends)) == 3 and ends[2] == source
    assert travelers._ways(SCANNERS, 2, 1) == ways != travelers._ways(SCANNERS, 2, 2)
    assert [len(ends) for ends in travelers._ways(SCANNERS[:4], 0, 1).values()] == [4] * 4


def test_a_reference_that_is_followed_has_a_slope_of_one() -> None:
    difference = np.array([0.1, -0.2, 0.3])
    assert travelers._slope(difference, difference) == pytest.approx(1)
    assert travelers._slope(0 * difference, difference) == 0
    assert travelers._slope(0.5 * difference + np.array([0.2, 0.1, 0.0]), difference) == pytest.approx(0.5)


def test_the_worst_direction_is_named() -> None:
    rows = []
    for source, target, gain in (("A", "B", 0.1), ("B", "A", -0.05)):
        rows += [scores(p, source, target, "raw", 0.5) for p in "12"]
        rows += [scores(p, source, target, travelers.OURS, 0.5 + gain) for p in "12"]
    worst = travelers.summarise(pd.DataFrame(rows))["worst_direction"]
    assert worst["direction"] == "B → A"
    assert worst["gain_over_raw"] == pytest.approx(-0.05)


def test_pairs_of_real_scans(tmp_path: Path) -> None:
    paths = []
    for name, power, seed in (("source", 1.0, 1), ("target", 1.3, 1), ("reference", 1.3, 2)):
        paths.append(tmp_path / f"{name}.nii.gz")
        nib.Nifti1Image((ball_brain(seed)[0] ** power).astype(np.float32), np.eye(4)).to_filename(paths[-1])
    pd.DataFrame([paths], columns=["source", "target", "reference"]).to_csv(tmp_path / "p.tsv", sep="\t", index=False)
    table = traveling_pairs.evaluate_pairs(tmp_path / "p.tsv", find_bundle("imunity"), tmp_path / "out").set_index(
        "method"
    )
    assert table.loc["histogram matching", "mae"] < 0.3 * table.loc["raw", "mae"]  # balls of nearly one histogram
    assert table.loc[travelers.OURS, "mae"] < table.loc["raw", "mae"]
    written = pd.read_csv(tmp_path / "out" / "pairs.tsv", sep="\t").set_index("method")
    pd.testing.assert_frame_equal(written, table, atol=1e-6)


def test_one_brain_is_too_few(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["travelers", str(tmp_path / "out"), "--brains", str(tmp_path)]) == 66
    assert "two are needed at least" in capsys.readouterr().err


def test_brains_are_chosen_by_pattern(done: Path) -> None:
    chosen = travelers.brains_below(done / "deriv", ["sub-1/*/*", "sub-3/*/*"])
    assert [path.name[:5] for path in chosen] == ["sub-1", "sub-3"]


def test_scanners_are_chosen_by_name() -> None:
    assert travelers.scanners_named([]) == SCANNERS
    assert [s.name for s in travelers.scanners_named(["SPGR-3T", "SPGR-1.5T"])] == ["SPGR-1.5T", "SPGR-3T"]
    with pytest.raises(Usage, match=r"--scanners nonsense: no such scanner; there are: SPGR-1.5T, "):
        travelers.scanners_named(["SPGR-3T", "nonsense"])
    with pytest.raises(Usage, match="name two at least"):
        travelers.scanners_named(["SPGR-3T"])


@pytest.mark.parametrize(
    "arguments",
    [["travelers", "OUT"], ["brain", "OUT"], ["brain", "OUT", "--bids-dir", "X"], ["sites", "OUT", "ONE"]],
)
def test_nothing_to_evaluate_on_is_a_wrong_call(arguments: list[str], tmp_path: Path) -> None:
    assert main([str(tmp_path / word) if word.isupper() else word for word in arguments]) == 64
    assert not (tmp_path / "OUT").exists()
