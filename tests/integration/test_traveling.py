"""Traveling subjects from the raw dataset to the paper's table 2, the participant level included."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import pandas as pd
import pytest

from imunity_bids.cli.evaluate import main
from imunity_bids.evaluation.travelers import OURS
from tests.integration.conftest import HARMONIZED, SMALL, describe, with_gamma, write

GAMMAS = {"A": 1.0, "B": 1.5}
VISITS = {"01": ("A001", "B001"), "02": ("A001", "B001")}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, small_brain: nib.Nifti1Image) -> Path:
    """Two persons (one the mirror image of the other) on two scanners, as ON-Harmony lays them out."""
    folder = tmp_path_factory.mktemp("travelers")
    for person, sessions in VISITS.items():
        for session in sessions:
            image = with_gamma(small_brain, GAMMAS[session[0]])
            if person == "02":
                image = nib.Nifti1Image(image.get_fdata()[::-1].astype("int16"), image.affine)
            write(folder, f"sub-{person}_ses-{session}", image)
    describe(folder)
    return folder


def test_from_raw_scans_to_table_2(dataset: Path, bundle_folder: Path, tmp_path: Path) -> None:
    words = [tmp_path, "--bids-dir", dataset, "--template", SMALL, "--model", bundle_folder, "--target-scanner", "B"]
    assert main(["travelers", *(str(word) for word in words)]) == 0
    assert len(list((tmp_path / "derivatives").rglob(f"*{HARMONIZED}.nii.gz"))) == 4
    table = pd.read_csv(tmp_path / "table2.tsv", sep="\t").set_index(["way", "method"])
    way = table.loc["A → B"]
    assert (way.persons == 2).all()
    assert way.mae["histogram matching"] < 0.5 * way.mae["raw"]  # a gamma is undone by it
    assert way.ssim[OURS] > way.ssim["raw"]  # untrained generators are nearly histogram matching
    assert (tmp_path / "pairs.png").stat().st_size > 5000
