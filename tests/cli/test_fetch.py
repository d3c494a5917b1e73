"""Templates are fetched beforehand: from a server that is played here, since the tests have none."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from imunity_bids.cli.fetch import main
from imunity_bids.image.template import load_template
from imunity_bids.settings import DEFAULT_TEMPLATE


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What the server is asked for; it has a mask and a head of every template but `Absent`, and none is at hand."""
    calls: list[tuple[str, str]] = []

    def get(space: str, *, suffix: str, **_: object) -> list[Path]:
        calls.append((space, suffix))
        if space == "Absent":
            return []
        if space == "Far":
            raise ConnectionError("no route to host")
        path = tmp_path / f"tpl-{space}_{suffix}.nii.gz"
        nib.Nifti1Image(np.ones((4, 5, 6), np.uint8), np.eye(4)).to_filename(path)
        return [path]

    monkeypatch.setattr("templateflow.api.get", get)
    monkeypatch.setattr("templateflow.conf.TF_HOME", tmp_path)
    load_template.cache_clear()
    yield calls
    load_template.cache_clear()


def test_the_default_or_those_that_are_named(
    asked: list[tuple[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main([]) == 0
    assert {space for space, _ in asked} == {DEFAULT_TEMPLATE}
    assert {suffix for _, suffix in asked} == {"mask", "T1w"}  # all that a run needs
    assert f"export TEMPLATEFLOW_HOME={tmp_path}" in capsys.readouterr().out
    assert main(["One", "Kids:cohort-2"]) == 0
    assert {space for space, _ in asked} == {DEFAULT_TEMPLATE, "One", "Kids"}
    assert "Kids:cohort-2 is there: 4 x 5 x 6 voxels" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "code"), [("Absent", 66), ("Far", 75), ("Kids:2", 64)])
def test_what_cannot_be_fetched(
    asked: list[tuple[str, str]], name: str, code: int, capsys: pytest.CaptureFixture
) -> None:
    assert main([name]) == code
    assert name.partition(":")[0] in capsys.readouterr().err
