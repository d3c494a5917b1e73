from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from imunity_bids.app import _scratch
from imunity_bids.settings import Settings


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without any folder for temporary files, as a read-only container is."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/proc/no"])
    monkeypatch.setenv("TMPDIR", "/proc/no")
    monkeypatch.delenv("MPLCONFIGDIR", raising=False)


def test_scratch_serves_where_nothing_else_is_writable_and_goes(nowhere: None, tmp_path: Path) -> None:
    settings = Settings(tmp_path / "in", tmp_path / "out", run_id="now")
    with _scratch(settings) as folder:
        assert Path(tempfile.mkdtemp()).is_relative_to(folder)
        assert Path(os.environ["MPLCONFIGDIR"]).is_relative_to(folder)
    assert not settings.scratch.exists()


def test_the_users_work_folder_and_that_of_another_run_stay(tmp_path: Path) -> None:
    mine = Settings(tmp_path / "in", tmp_path / "out", work_dir=tmp_path / "work")
    with _scratch(mine) as folder:
        assert folder == tmp_path / "work"
    assert folder.exists()
    own = Settings(tmp_path / "in", tmp_path / "out", run_id="a")
    (own.scratch / "b").mkdir(parents=True)
    with _scratch(own):
        pass
    assert list(own.scratch.iterdir()) == [own.scratch / "b"]
