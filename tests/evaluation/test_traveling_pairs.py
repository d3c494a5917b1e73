"""Traveling subjects in BIDS: ball brains on two scanners, heads turned between the visits."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from imunity_bids.cli import run
from imunity_bids.cli.evaluate import main
from imunity_bids.evaluation import traveling_pairs
from imunity_bids.evaluation.travelers import OURS
from tests.simulation.people import ball_brain

VISITS = [("1", "A001"), ("1", "B001"), ("2", "A001"), ("2", "B001"), ("2", "B002"), ("3", "B001")]


@pytest.fixture(scope="module")
def derivatives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scanner B has a gamma of 1.4; its heads are shifted by two voxels."""
    folder = tmp_path_factory.mktemp("traveling") / "derivatives"
    for person, session in VISITS:
        brain, mask = ball_brain(int(person), 48)
        if session.startswith("B"):
            brain, mask = (np.roll(volume, 2, axis=0) for volume in (brain**1.4, mask))
        anat = folder / f"sub-{person}" / f"ses-{session}" / "anat"
        anat.mkdir(parents=True)
        name = f"sub-{person}_ses-{session}_space-X_res-1_desc-preproc_T1w.nii.gz"
        nib.Nifti1Image((brain * mask).astype(np.float32), np.eye(4)).to_filename(anat / name)
    return folder


@pytest.fixture(scope="module")
def table(derivatives: Path, bundle_folder: Path) -> pd.DataFrame:
    words = ["--bids-dir", derivatives.parent, "--derivatives", derivatives, "--model", bundle_folder]
    words += ["--scanner-from", "session", "--target-scanner", "B"]
    assert main(["travelers", *(str(word) for word in [derivatives.parent / "out", *words])]) == 0
    return pd.read_csv(derivatives.parent / "out" / "table2.tsv", sep="\t").set_index(["way", "method"])


def test_everybody_on_both_scanners_counts_once(table: pd.DataFrame) -> None:
    assert list(table.index.levels[0]) == ["A → B", traveling_pairs.RESCAN]
    assert (table.loc["A → B"].persons == 2).all()  # the third was on one scanner only, as others' reference
    assert (table.loc[traveling_pairs.RESCAN].persons == 1).all()


def test_heads_are_put_on_each_other_and_the_contrast_is_mended(table: pd.DataFrame) -> None:
    assert table.loc[(traveling_pairs.RESCAN, "raw"), "ssim"] > 0.999  # the same scan twice
    way = table.loc["A → B"]
    assert way.mae["raw"] < 0.15  # without registration, borders two voxels apart would add to the gamma's 0.1
    assert way.mae["histogram matching"] < 0.5 * way.mae["raw"]
    assert way.ssim[OURS] > way.ssim["raw"]  # untrained generators are nearly histogram matching


def test_means_and_paired_tests_are_over_persons() -> None:
    rows = [
        {"person": person, "source": "A", "method": method, "ssim": ssim, "psnr": 1.0, "mae": 1.0}
        for person, before, after in (("1", 0.8, 0.9), ("1", 0.6, 0.9), ("2", 0.5, 0.7), ("3", 0.6, 0.9))
        for method, ssim in (("raw", before), (OURS, after))
    ]
    found = traveling_pairs.table_2(pd.DataFrame(rows), "B").set_index("method")
    assert found.ssim["raw"] == pytest.approx(0.6)  # 0.7, 0.5 and 0.6
    assert found.ssim_sd["raw"] == pytest.approx(0.1)
    assert found.ssim_p[OURS] == pytest.approx(stats.ttest_rel([0.9, 0.7, 0.9], [0.7, 0.5, 0.6]).pvalue)
    assert np.isnan(found.ssim_p["raw"])


def test_the_reference_is_ones_own_on_request(derivatives: Path, bundle_folder: Path, tmp_path: Path) -> None:
    trips = traveling_pairs.trips_of(derivatives.parent, derivatives, "session")
    pair = [trip for trip in trips if trip.person == "sub-1"]
    with pytest.raises(traveling_pairs.DataUnusable, match="try --same-person or name another --target-scanner"):
        traveling_pairs.evaluate_dataset(pair, bundle_folder, tmp_path, "B")
    words = ["--bids-dir", derivatives.parent, "--derivatives", derivatives, "--model", bundle_folder, "--same-person"]
    assert main(["travelers", *(str(word) for word in [tmp_path / "out", *words])]) == 0
    own = pd.read_csv(tmp_path / "out" / "pairs.tsv", sep="\t")
    matched = own[(own.method == "histogram matching") & (own.source == "A")]
    assert matched.mae.mean() < 0.03  # its own histogram: only interpolation differs
    with pytest.raises(traveling_pairs.Usage, match="--target-scanner C: no such scanner; there are: A, B"):
        traveling_pairs.evaluate_dataset(trips, bundle_folder, tmp_path, "C")


def test_the_participant_level_runs_where_it_has_not(
    derivatives: Path, bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(run, "main", lambda words: asked.append(words) or 66)
    words = ["--bids-dir", derivatives.parent, "--model", bundle_folder]
    assert main(["travelers", *(str(word) for word in [tmp_path / "out", *words])]) == 66
    assert asked[0][:3] == [str(derivatives.parent), str(tmp_path / "out" / "derivatives"), "participant"]


def test_a_shifted_head_is_put_back(derivatives: Path, tmp_path: Path) -> None:
    target = next(derivatives.glob("sub-1/ses-A001/anat/*"))
    image = nib.load(target)
    truth = np.asarray(image.dataobj)
    shifted = np.roll(truth, 3, axis=1)
    nib.Nifti1Image(shifted, image.affine).to_filename(tmp_path / "shifted.nii.gz")
    back = traveling_pairs._moved(tmp_path / "shifted.nii.gz", target)
    assert np.abs(back - truth).mean() < 0.3 * np.abs(shifted - truth).mean()  # what interpolation smooths is left
