from __future__ import annotations

import json
from pathlib import Path

from imunity_bids.bids.participants import read_participants


def test_the_own_table_or_that_of_the_raw_dataset(tmp_path: Path) -> None:
    """Paths with spaces come as %20 in the link; values stay text: 007 is a label, and so may 1.0 be."""
    raw, derived = tmp_path / "my raw", tmp_path / "derived"
    raw.mkdir(), derived.mkdir()
    (raw / "participants.tsv").write_text("participant_id\tsite\tage\nsub-007\tA\t\nsub-8\t1.0\tn/a\n")
    (derived / "dataset_description.json").write_text(json.dumps({"DatasetLinks": {"raw": raw.as_uri()}}))
    rows = read_participants(derived)
    assert rows == read_participants(raw)
    assert rows["sub-007"] == {"participant_id": "sub-007", "site": "A", "age": ""}
    assert rows["sub-8"] == {"participant_id": "sub-8", "site": "1.0", "age": "n/a"}
    (derived / "participants.tsv").write_text("participant_id\tsite\nsub-9\tB\n")
    assert list(read_participants(derived)) == ["sub-9"]


def test_no_table_is_no_error(tmp_path: Path) -> None:
    assert read_participants(tmp_path) == {}
    (tmp_path / "dataset_description.json").write_text("{}")
    assert read_participants(tmp_path) == {}
