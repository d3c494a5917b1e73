from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from imunity_bids.cli import demo, evaluate, fetch, harmonize, predict, run, slurm, train
from imunity_bids.cli.parser import build_parser, parse
from imunity_bids.errors import UnknownLevel, Usage

HEAVY = ("torch", "ants", "nipype", "bids", "nibabel", "numpy", "scipy", "pandas", "matplotlib")


@pytest.mark.parametrize(
    "module", ["run", "train", "evaluate", "demo", "parser", "predict", "slurm", "fetch", "harmonize"]
)
def test_help_needs_nothing_heavy(module: str) -> None:
    code = f"import sys, imunity_bids.cli.{module} as m; print([n for n in {HEAVY} if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


@pytest.mark.parametrize(
    "command", [run.main, train.main, evaluate.main, demo.main, predict.main, slurm.main, fetch.main, harmonize.main]
)
@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version(command, option: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stop:
        command([option])
    assert stop.value.code == 0
    assert "imunity" in capsys.readouterr().out


def test_labels_in_all_their_forms(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("sub-05\n06,07\n")
    arguments = ["--participant-label", "sub-01", "02,03", f"@{tmp_path}/list.txt", "01"]
    settings = parse([str(tmp_path), str(tmp_path / "out"), "participant", *arguments])
    assert settings.participants == ("01", "02", "03", "05", "06", "07")


def test_the_toml_of_a_run_is_a_config_file(tmp_path: Path) -> None:
    options = ["--template", "X", "--batch-size", "3", "--force"]
    first = parse([str(tmp_path), str(tmp_path / "o"), "participant", *options])
    (tmp_path / "run.toml").write_text(first.to_toml())
    again = parse([str(tmp_path), str(tmp_path / "o2"), "participant", "--config-file", str(tmp_path / "run.toml")])
    assert (again.template, again.batch_size, again.force) == ("X", 3, True)
    assert again.output_dir.name == "o2"
    (tmp_path / "run.toml").write_text("nonsense = 1\n")
    with pytest.raises(Usage, match="nonsense"):
        parse([str(tmp_path), str(tmp_path), "participant", "--config-file", str(tmp_path / "run.toml")])


def test_values_that_make_no_sense(tmp_path: Path) -> None:
    with pytest.raises(Usage, match="--batch-size 0"):
        parse([str(tmp_path), str(tmp_path), "participant", "--batch-size", "0"])
    with pytest.raises(UnknownLevel):
        parse([str(tmp_path), str(tmp_path), "session"])


def main(*arguments: object) -> int:
    try:
        return run.main([str(a) for a in arguments])
    except SystemExit as stop:
        return int(stop.code or 0)


def test_exit_codes_of_wrong_calls(tmp_path: Path, bundle_folder: Path, capsys: pytest.CaptureFixture) -> None:
    dataset, out = tmp_path / "bids", tmp_path / "out"
    common = ["--model", bundle_folder, "--template", "MNI152NLin2009aSym"]
    assert main(dataset, out, "participant", *common) == 66
    dataset.mkdir()
    assert main(dataset, out, "participant", *common) == 16
    (dataset / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.9.0"}')
    assert main(dataset, out, "nonsense", *common) == 17
    assert main(dataset, out, "participant", *common) == 18
    assert main(dataset, out, "participant", "--nonsense") == 64
    assert main(dataset, dataset, "participant", *common) == 64
    (tmp_path / "file").touch()
    assert main(dataset, tmp_path / "file" / "out", "participant", *common) == 73
    assert main(dataset, out, "participant", "--model", tmp_path) == 66
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("imunity: ")]
    assert len(lines) == 8
    assert not any("Traceback" in line for line in lines)


def test_every_option_has_help() -> None:
    assert all(action.help for action in build_parser()._actions)
