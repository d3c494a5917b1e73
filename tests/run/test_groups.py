"""Images go in groups; those of one person in the same."""

from __future__ import annotations

from pathlib import Path

from imunity_bids.bids.scan import T1w
from imunity_bids.run.levels import _groups


def test_the_scans_of_a_person_stay_together() -> None:
    names = ["sub-1_ses-1", "sub-2_ses-1", "sub-2_ses-2", "sub-2_ses-3", "sub-3", "sub-4"]
    images = tuple(T1w.from_path(Path(f"/d/{name}_T1w.nii.gz"), Path("/d")) for name in names)
    groups = [([image.stem for image in group], left) for group, left in _groups(images, 2)]
    assert groups == [(names[:4], 2), (names[4:], 0)]
    assert [len(group) for group, _ in _groups(images, 1)] == [1, 3, 1, 1]
    assert list(_groups((), 2)) == []
