"""Names of the spaces that results are written in."""

from __future__ import annotations

import pytest

from imunity_bids.bids.spaces import OutputSpace, read_space, spaces_besides
from imunity_bids.errors import Usage

MODELS = "MNI152NLin2009cAsym"


@pytest.mark.parametrize(
    ("text", "template", "resolution", "label"),
    [
        ("T1w", "T1w", "1", "T1w"),
        ("MNI152NLin6Asym", "MNI152NLin6Asym", "1", "MNI152NLin6Asym"),
        ("MNI152NLin6Asym:res-2", "MNI152NLin6Asym", "2", "MNI152NLin6Asym"),
        ("MNIPediatricAsym:res-02:cohort-2", "MNIPediatricAsym:cohort-2", "2", "MNIPediatricAsym2"),
    ],
)
def test_a_space_is_read(text: str, template: str, resolution: str, label: str) -> None:
    space = read_space(text)
    assert space == OutputSpace(template, resolution)
    assert space.label == label
    assert read_space(str(space)) == space
    assert space.entities == ({} if text == "T1w" else {"space": label, "res": resolution})


@pytest.mark.parametrize(
    "text", ["", "a/b", "T1w:res-2", "X:res", "X:res-", "X:res-2:res-1", "X:desc-brain", "X:cohort-1:cohort-2", "X:2"]
)
def test_what_is_no_space_is_told(text: str) -> None:
    with pytest.raises(Usage, match=r"write template, T1w, or NAME"):
        read_space(text)


def test_the_models_space_is_always_there_and_no_space_counts_twice() -> None:
    asked = ["template", "T1w", MODELS, f"{MODELS}:res-01", "template:res-2", f"{MODELS}:res-2", "T1w"]
    assert spaces_besides(asked, MODELS) == (OutputSpace("T1w"), OutputSpace(MODELS, "2"))
    assert spaces_besides(["template:res-2"], "Kids:cohort-3") == (OutputSpace("Kids:cohort-3", "2"),)


def test_two_spaces_with_one_file_name_are_told() -> None:
    """Letters and digits only stand in a name: cohort 2 of X, and a template that is called X2."""
    with pytest.raises(Usage, match="would have the same names"):
        spaces_besides(["X:cohort-2", "X2"], MODELS)
