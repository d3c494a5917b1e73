"""`--curve site`: whose mean contrast the curve of an image is made from."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from imunity_bids.bids.inputs import Dataset, find_t1w
from imunity_bids.errors import Usage
from imunity_bids.plan.requests import ReferenceRequest
from imunity_bids.plan.site_curves import site_curves
from imunity_bids.settings import Settings

CARD = {"name": "x", "architecture": {"kind": "curves"}}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Twelve persons at site A, two at B, one whose site nobody knows."""
    sites = {f"{number:02}": "A" for number in range(1, 13)} | {"13": "B", "14": "B", "15": "n/a"}
    for number, label in enumerate(sites):
        path = tmp_path / f"sub-{label}" / "anat" / f"sub-{label}_T1w.nii.gz"
        path.parent.mkdir(parents=True)
        nib.Nifti1Image(np.full((4, 4, 4), float(number), np.float32), np.eye(4)).to_filename(path)
    (tmp_path / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.9.0"}')
    rows = "".join(f"sub-{label}\t{site}\n" for label, site in sites.items())
    (tmp_path / "participants.tsv").write_text("participant_id\tsite\n" + rows)
    return Settings(tmp_path, tmp_path / "out", curve="site")


def found(settings: Settings, *labels: str) -> dict[str, ReferenceRequest]:
    dataset = Dataset(settings.bids_dir)
    return site_curves(settings, CARD, dataset, find_t1w(dataset, labels, (), None, settings.excluded))


def persons(mean: ReferenceRequest) -> list[str]:
    return [image.subject for image in mean.images]


def test_the_first_ten_of_its_site_whoever_is_in_the_run(settings: Settings) -> None:
    everybody = found(settings)
    assert len(everybody) == 14
    assert persons(everybody["sub-12"]) == [f"{number:02}" for number in range(1, 11)]
    assert everybody["sub-12"].label == "A"
    assert persons(everybody["sub-13"]) == ["13", "14"]
    assert found(settings, "12") == {"sub-12": everybody["sub-12"]}


def test_who_is_excluded_or_cannot_be_read_is_in_no_mean(settings: Settings) -> None:
    scan = settings.bids_dir / "sub-01" / "anat" / "sub-01_T1w.nii.gz"
    scan.unlink()
    scan.symlink_to("not_fetched.nii.gz")
    left = found(replace(settings, excluded=("02",)), "12", "01")
    assert persons(left["sub-12"]) == [f"{number:02}" for number in range(3, 13)]
    assert left["sub-01"] == left["sub-12"]  # whose own failure comes when its turn does


def test_few_persons_and_unknown_sites_are_said(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert found(settings, "15") == {}
        assert "the site of sub-15 is not known" in caplog.text
        assert found(settings, "14")
    assert "fewer than 3 persons at B" in caplog.text


def test_without_a_column_or_a_scanner_the_dataset_is_the_site(settings: Settings) -> None:
    (settings.bids_dir / "participants.tsv").unlink()
    means = found(settings)
    assert len({mean.sha256 for mean in means.values()}) == 1
    assert len(means) == 15


def test_every_scan_has_its_own_unless_asked_and_painters_have_none(settings: Settings) -> None:
    assert found(replace(settings, curve="scan")) == {}
    with pytest.raises(Usage, match="--curve site: the models of p paint"):
        site_curves(settings, {"name": "p", "architecture": {"kind": "paper"}}, Dataset(settings.bids_dir), [])
