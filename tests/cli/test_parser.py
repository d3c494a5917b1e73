"""What is typed goes before the configuration file, and that before the defaults; paths depend on no folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from imunity_bids.cli.parser import options_in_full, parse
from imunity_bids.cli.run import main
from imunity_bids.errors import InputMissing, Usage
from imunity_bids.settings import Settings


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def settings(*options: str, config: str | None = None) -> Settings:
    words = ["bids", "out", "participant", *options]
    if config is not None:
        Path("run.toml").write_text(config)
        words += ["--config-file", "run.toml"]
    return parse(words)


def test_typed_options_replace_those_of_the_file_lists_too(here: Path) -> None:
    config = """
    references = ["default", "site:A"]
    participants = ["01", "02"]
    output_spaces = ["template", "T1w"]
    force = true
    verbosity = 2
    batch_size = 3
    work_dir = "/scratch"
    """
    written = settings(config=config)
    assert written.references == ("default", "site:A")
    assert (written.participants, written.output_spaces) == (("01", "02"), ("template", "T1w"))
    assert (written.force, written.verbosity, written.batch_size) == (True, 2, 3)
    assert written.work_dir == Path("/scratch")
    words = ["--reference", "sub-03", "--participant-label", "09", "--no-force", "-v", "--output-spaces", "template"]
    typed = settings(*words, config=config)
    assert typed.references == ("sub-03",)
    assert (typed.participants, typed.output_spaces) == (("09",), ("template",))
    assert (typed.force, typed.verbosity, typed.batch_size) == (False, 1, 3)
    default = settings("--batch-size", "16", config=config)  # typed, though it is the default
    assert default.batch_size == 16


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ('skull_strip = "nonsense"', "invalid choice: 'nonsense'"),
        ('batch_size = "many"', "invalid int value"),
        ("batch_size = 2.5", "invalid int value"),
    ],
)
def test_values_in_the_file_are_checked_like_typed_ones(
    here: Path, config: str, message: str, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as stop:
        settings(config=config)
    assert stop.value.code == 64
    error = capsys.readouterr().err
    assert message in error
    assert "--config-file run.toml" in error


@pytest.mark.parametrize(
    "config",
    [
        'output_spaces = ["T1w:res-2"]',
        'force = "yes"',
        "force = 1",
        "batch_size = 0",
        'device = "tpu"',
        "nonsense = 1",
        "x =",
        "verbosity = 'x'",
    ],
)
def test_values_that_are_wrong_in_other_ways(here: Path, config: str) -> None:
    with pytest.raises(Usage):
        settings(config=config)


def test_one_word_where_a_list_is_wanted_is_one_word(here: Path) -> None:
    assert settings(config='sessions = "12"').sessions == ("12",)
    assert settings(config="sessions = [1, 2]").sessions == ("1", "2")
    with pytest.raises(InputMissing):
        settings("--config-file", "absent.toml")


def test_paths_are_the_same_from_every_folder(here: Path, bundle_folder: Path) -> None:
    for name in ("bundle", "brain", "weights"):
        (here / name).mkdir()
    (here / "scan.nii.gz").touch()
    options = {
        "--model": "bundle", "--brain-model": "brain", "--synthstrip-model": "weights/w.pt",
        "--bids-filter-file": "f.json", "--bids-database-dir": "db", "--use-plugin": "p.yml", "-w": "work",
    }  # fmt: skip
    words = [word for pair in options.items() for word in pair]
    made = settings(*words, "--reference", "scan.nii.gz", "--reference", "default", "--reference", "sub-01")
    assert made.model == str(here / "bundle")
    assert made.references == (str(here / "scan.nii.gz"), "default", "sub-01")
    paths = [value for value in vars(made).values() if isinstance(value, Path)]
    assert len(paths) == 8
    assert all(path.is_absolute() and path.is_relative_to(here) for path in paths)
    assert settings("--brain-model", "bundle/../brain").brain_model == here / "brain"


def test_a_shipped_bundle_goes_before_a_folder_of_that_name(here: Path) -> None:
    (here / "imunity").mkdir()
    assert settings().model == "imunity"


def test_options_in_full_mean_the_same_elsewhere(here: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What imunity-slurm writes into a script that runs in another folder."""
    (here / "bundle").mkdir()
    (here / "scan.nii").touch()
    (here / "list.txt").write_text("sub-01 02")
    given = ["--model", "bundle", "--reference", "scan.nii", "--participant-label", "@list.txt", "--force", "-vv"]
    given += ["--brain-border", "-1.5", "--output-spaces", "template", "T1w", "--brain-model", "bundle"]
    words, paths = options_in_full(["bids", "out", "participant", *given])
    before = settings(*given)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(elsewhere)
        after = parse([str(here / "bids"), str(here / "out"), "participant", *words])
    names = Settings.names() - {"run_id", "mem_gb"}
    assert {n: getattr(after, n) for n in names} == {n: getattr(before, n) for n in names}
    assert set(paths) == {here / "bundle", here / "scan.nii"}
    assert before.brain_border == -1.5


def test_the_toml_of_a_run_gives_the_same_run(here: Path) -> None:
    first = settings("--reference", 'site:Ä "B"', "--session-label", "1", "2", "--no-force", "--write-graph", "-v")
    again = settings(config=first.to_toml())
    names = Settings.names() - {"run_id"}
    assert {n: getattr(again, n) for n in names} == {n: getattr(first, n) for n in names}


@pytest.mark.parametrize("width", ["0", "-2", "nan", "inf", "soft", ""])
def test_a_smoothness_that_is_none_is_a_wrong_call(here: Path, width: str) -> None:
    with pytest.raises(Usage, match="--target-fwhm"):
        settings(f"--target-fwhm={width}")
    assert settings("--target-fwhm", "5.5").target_fwhm == "5.5"


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "cuda:-1", "CUDA", ""])
def test_a_device_that_nobody_knows_is_a_wrong_call(here: Path, device: str) -> None:
    with pytest.raises(Usage, match="--device"):
        settings("--device", device)


def test_a_gpu_that_is_not_there_is_said_at_once(
    here: Path, bundle_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    _dataset(here)
    options = ["--model", str(bundle_folder), "--template", "MNI152NLin2009aSym"]
    assert main(["bids", "out", "participant", *options, "--device", "cuda"]) == 64
    assert "torch finds no GPU" in capsys.readouterr().err
    assert not (here / "out" / ".imunity_work").exists()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert main(["bids", "out", "participant", *options, "--device", "cuda:2"]) == 64
    assert "there are 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("plugin: Nonsense", "Nipype has no plugin Nonsense; it has"),
        ("plugin: MultiProc\nplugin_args: [1]", "must be a mapping"),
        ("plugin_args: {}", "needs a line plugin"),
        ("plugin: [", "is not YAML"),
        (None, "No such file"),
    ],
)
def test_a_plugin_that_is_none_is_said_at_once(
    here: Path, bundle_folder: Path, capsys: pytest.CaptureFixture, content: str | None, message: str
) -> None:
    _dataset(here)
    if content is not None:
        (here / "p.yml").write_text(content)
    options = ["--model", str(bundle_folder), "--template", "MNI152NLin2009aSym", "--use-plugin", "p.yml"]
    assert main(["bids", "out", "participant", *options]) == (66 if content is None else 64)
    assert message in capsys.readouterr().err


def _dataset(folder: Path) -> None:
    anat = folder / "bids" / "sub-01" / "anat"
    anat.mkdir(parents=True)
    (anat / "sub-01_T1w.nii.gz").write_bytes(b"no image: nothing here gets as far as reading it")
    (folder / "bids" / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.9.0"}')
