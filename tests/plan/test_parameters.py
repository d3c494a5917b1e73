from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from imunity_bids.errors import InputMissing
from imunity_bids.plan.parameters import preprocessing
from imunity_bids.settings import Settings


def test_other_brain_weights_are_other_parameters(tmp_path: Path) -> None:
    """The same folder, trained anew: what was made with the old weights is not done."""
    settings = Settings(tmp_path, tmp_path / "out", brain_model=tmp_path)
    found = []
    for digest in ("aa", "bb"):
        (tmp_path / "card.json").write_text(json.dumps({"sha256": digest}))
        found.append((preprocessing(settings), preprocessing(replace(settings, skull_strip="none"))))
    (before, stripped_before), (after, stripped_after) = found
    assert before != after
    assert stripped_before == stripped_after
    with pytest.raises(InputMissing, match="no card"):
        preprocessing(replace(settings, brain_model=tmp_path / "nowhere"))
