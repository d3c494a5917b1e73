"""Which site a scan is of: a person may have been to several."""

from __future__ import annotations

from pathlib import Path

import pytest

from imunity_bids.bids.participants import read_participants
from imunity_bids.bids.scan import T1w
from imunity_bids.bids.sites import named_sites, scans_of_site
from imunity_bids.errors import InputMissing, NothingSelected, Usage


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """The first person went from A to B; of the third nothing is known."""
    (tmp_path / "participants.tsv").write_text("participant_id\tsite\nsub-1\tA\nsub-2\tB\nsub-3\tn/a\n")
    (tmp_path / "sub-1").mkdir()
    (tmp_path / "sub-1" / "sub-1_sessions.tsv").write_text("session_id\tsite\nses-x\tn/a\nses-y\tB\n")
    return tmp_path


def scans(folder: Path, *names: str) -> list[T1w]:
    return [T1w.from_path(folder / f"{name}_T1w.nii.gz", folder) for name in names]


def test_the_session_counts_before_the_person(dataset: Path) -> None:
    stems = ["sub-1_ses-x", "sub-1_ses-y_run-2", "sub-2_ses-y", "sub-3", "sub-4"]
    assert named_sites(dataset, stems, "site", read_participants(dataset)) == {
        "sub-1_ses-x": "A",
        "sub-1_ses-y_run-2": "B",
        "sub-2_ses-y": "B",
        "sub-3": "",
        "sub-4": "",
    }


def test_scans_of_a_site(dataset: Path) -> None:
    images = scans(dataset, "sub-1_ses-x", "sub-1_ses-y", "sub-2", "sub-3")
    assert scans_of_site(images, dataset, "site", "A") == images[:1]
    assert scans_of_site(images, dataset, "site", "B") == images[1:3]
    with pytest.raises(Usage, match="no column centre; name one with --site-column: participant_id, site"):
        scans_of_site(images, dataset, "centre", "B")
    with pytest.raises(NothingSelected, match=r"no T1w image with site = C; there are: \['A', 'B'\]"):
        scans_of_site(images, dataset, "site", "C")
    (dataset / "participants.tsv").unlink()
    assert scans_of_site(images, dataset, "site", "B") == images[1:2]  # sessions.tsv alone will do
    with pytest.raises(InputMissing, match=r"site:B needs .*participants\.tsv"):
        scans_of_site(images[2:], dataset, "site", "B")
