"""Nothing that is not ours is ever written over or removed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from imunity_bids.bids.sidecars import write_dataset_files
from imunity_bids.cli import demo
from imunity_bids.cli.run import main
from imunity_bids.errors import OutputImpossible, Usage
from imunity_bids.image.template import BUILT_IN
from imunity_bids.run.folders import MARKER, check_folders, make_work_folder
from imunity_bids.run.scratch import scratch_folder
from imunity_bids.settings import Settings


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A raw dataset with one scan, which need not be a real one: no call here gets as far as opening it."""
    folder = tmp_path / "study" / "raw"
    (folder / "sub-01" / "anat").mkdir(parents=True)
    (folder / "sub-01" / "anat" / "sub-01_T1w.nii.gz").write_bytes(b"scan")
    (folder / "dataset_description.json").write_text('{"Name": "raw", "BIDSVersion": "1.9.0"}')
    (folder / "README.md").write_text("mine")
    return folder


@pytest.fixture(autouse=True)
def untouched(dataset: Path) -> Iterator[None]:
    """After every test here the dataset is what it was."""
    before = content(dataset)
    yield
    assert content(dataset) == before


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def imunity(dataset: Path, out: Path, *options: object) -> int:
    return main([str(part) for part in (dataset, out, "participant", "--template", BUILT_IN, *options)])


def test_the_dataset_as_work_folder_is_refused_and_nothing_is_removed(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for work in (dataset, dataset / "work", dataset.parent, dataset / "sub-01"):
        assert imunity(dataset, tmp_path / "out", "-w", work, "--clean-workdir") == 64
        assert "nothing is ever written into a source dataset" in capsys.readouterr().err


@pytest.mark.parametrize("level", ["participant", "group"])
def test_the_dataset_as_output_is_refused_whatever_its_path_looks_like(
    dataset: Path, tmp_path: Path, level: str
) -> None:
    link = tmp_path / "link"
    link.symlink_to(dataset)
    (dataset.parent / "other").mkdir()
    outputs = (
        dataset,
        link,
        dataset / ".." / "raw",
        dataset.parent / "other" / ".." / "raw",
        dataset / "sub-01",
        link / "out",
    )
    for out in (*outputs, dataset.parent, dataset / "derivatives"):
        if out.exists() or level == "participant":  # the group level says first that there is nothing to gather
            assert main([str(dataset), str(out), level, "--template", BUILT_IN]) == 64, out


def test_the_dataset_by_a_link_is_the_same_dataset(dataset: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(dataset)
    assert imunity(link, dataset) == 64


def test_a_folder_among_the_derivatives_is_allowed(dataset: Path) -> None:
    settings = Settings(dataset, dataset / "derivatives" / "imunity")
    check_folders(settings)
    check_folders(replace(settings, work_dir=settings.output_dir / ".imunity_work" / "mine"))
    with pytest.raises(Usage, match="is in BIDS_DIR"):
        check_folders(replace(settings, work_dir=dataset / "derivatives" / "work"))


def test_a_database_of_pybids_stays_out_of_the_dataset(dataset: Path, tmp_path: Path) -> None:
    assert imunity(dataset, tmp_path / "out", "--bids-database-dir", dataset / "db") == 64


@pytest.mark.parametrize("name", ["README.md", "descriptions.tsv", "dataset_description.json", ".bidsignore"])
def test_a_folder_that_holds_something_else_is_no_output(dataset: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text('{"Name": "fMRIPrep", "GeneratedBy": [{"Name": "fMRIPrep"}]}')
    before = content(out)
    assert imunity(dataset, out) == 64
    assert content(out) == before


def test_a_group_level_too_early_leaves_nothing_behind(dataset: Path, tmp_path: Path) -> None:
    """A `.bidsignore` of ours without a dataset_description.json would look like somebody else's folder."""
    out = tmp_path / "out"
    out.mkdir()
    assert main([str(dataset), str(out), "group"]) == 18
    assert not content(out)
    check_folders(Settings(dataset, out))


def test_our_own_output_is_welcome_again(dataset: Path, tmp_path: Path) -> None:
    write_dataset_files(tmp_path / "out", {"raw": dataset.as_uri()}, "methods")
    check_folders(Settings(dataset, tmp_path / "out"))
    assert json.loads((tmp_path / "out" / "dataset_description.json").read_text())["DatasetType"] == "derivative"


def test_the_output_as_work_folder_is_refused(dataset: Path, tmp_path: Path) -> None:
    for work in (tmp_path / "x" / "out", tmp_path / "x"):
        with pytest.raises(Usage, match="holds OUTPUT_DIR"):
            check_folders(Settings(dataset, tmp_path / "x" / "out", work_dir=work))


def test_only_a_work_folder_that_the_app_made_is_emptied(dataset: Path, tmp_path: Path) -> None:
    work, mine = tmp_path / "work", tmp_path / "mine"
    settings = Settings(dataset, tmp_path / "out", work_dir=work, clean_workdir=True)
    check_folders(settings)
    with scratch_folder(settings) as folder:
        assert folder == work
        (work / "nodes").mkdir()
        (work / "nodes" / "file").touch()
        (work / "link").symlink_to(dataset)
    assert (work / MARKER).is_file()
    check_folders(settings)
    make_work_folder(work, clean=True)
    assert [path.name for path in work.iterdir()] == [MARKER]
    mine.mkdir()
    (mine / "thesis.tex").touch()
    make_work_folder(mine, clean=False)  # may be used, but is not marked
    with pytest.raises(Usage, match="not made by this app"):
        check_folders(replace(settings, work_dir=mine))
    make_work_folder(mine, clean=True)
    assert [path.name for path in mine.iterdir()] == ["thesis.tex"]


def test_a_work_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputImpossible, match="--work-dir"):
        make_work_folder(tmp_path / "file" / "work", clean=False)
    for clean in (False, True):
        with pytest.raises(OutputImpossible, match="--work-dir"):
            make_work_folder(tmp_path / "file", clean)
    check_folders(Settings(tmp_path / "in", tmp_path / "out", work_dir=tmp_path / "file", clean_workdir=True))


def test_the_demo_does_not_write_over_a_dataset(dataset: Path, capsys: pytest.CaptureFixture) -> None:
    dataset.rename(dataset.with_name("bids"))
    before = content(dataset.with_name("bids"))
    try:
        assert demo.main([str(dataset.parent), "--only-data"]) == 64
        assert content(dataset.with_name("bids")) == before
    finally:
        dataset.with_name("bids").rename(dataset)
    assert "is not the demo" in capsys.readouterr().err
