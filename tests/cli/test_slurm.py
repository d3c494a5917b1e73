from __future__ import annotations

import os
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from imunity_bids.cli.slurm import main


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    folder = tmp_path / "my data"
    for label in ("01", "02", "03"):
        path = folder / f"sub-{label}" / "anat" / f"sub-{label}_T1w.nii.gz"
        path.parent.mkdir(parents=True)
        nib.Nifti1Image(np.zeros((4, 4, 4), np.float32), np.eye(4)).to_filename(path)
    (folder / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.8.0"}')
    return folder


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An sbatch that runs every task at once, as the scheduler would, and a container runner that shows its words."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "sbatch").write_text(
        "#!/bin/bash\n"
        'echo "$@" >> "$CALLS"\n'
        '[[ "$*" == *array.sh* ]] || { echo 8; exit; }\n'
        "tasks=$(sed -n 's/^#SBATCH --array=1-\\([0-9]*\\).*/\\1/p' array.sh)\n"
        "for n in $(seq $tasks); do\n"
        "    SLURM_ARRAY_TASK_ID=$n SLURM_ARRAY_JOB_ID=7 bash array.sh > logs/7_$n.log 2>&1\n"
        "done\n"
        "echo 7\n"
    )
    (tools / "apptainer").write_text('#!/bin/bash\nprintf "<%s>" "$@"\necho\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    return tmp_path


def test_one_task_per_participant_in_the_container(dataset: Path, cluster: Path) -> None:
    image, scripts, out = cluster / "imunity.sif", cluster / "my scripts", cluster / "out dir"
    image.touch()
    call = [str(dataset), str(out), "--script-dir", str(scripts), "--image", str(image), "--max-jobs", "2", "--gpu"]
    call += ["--submit", "--template", "MNI152NLin2009aSym", "--reference", "sub-01"]
    assert main(call) == 0
    assert "#SBATCH --array=1-3%2\n" in (scripts / "array.sh").read_text()
    assert "#SBATCH --gpus=1\n" in (scripts / "array.sh").read_text()
    assert "gpus" not in (scripts / "check.sh").read_text()
    log = (scripts / "logs" / "7_2.log").read_text()
    for words in (
        f"<--bind><{dataset}:{dataset}:ro><--bind><{out}>",
        f"<{image}><{dataset}><{out}><participant>",
        "<--nv>",
        "<--reference=sub-01><--participant-label><02>",
    ):
        assert words in log
    calls = (cluster / "calls").read_text().splitlines()
    assert calls == ["--parsable array.sh", "--parsable --dependency=afterany:7 check.sh 7"]


def test_memory_follows_the_largest_image_and_how_many_are_worked_on_at_once(dataset: Path, cluster: Path) -> None:
    """Images of one person are worked on side by side, as cores allow; a scan of the reference counts, too."""

    def memory(*options: str) -> int:
        call = [str(dataset), str(cluster / "out"), "--script-dir", str(cluster / "s"), *options]
        assert main([*call, "--template", "MNI152NLin2009aSym"]) == 0
        (line,) = [text for text in (cluster / "s" / "array.sh").read_text().splitlines() if "--mem=" in text]
        return int(line.partition("=")[2].removesuffix("G"))

    def scan(name: str, size: tuple[int, int, int]) -> None:
        path = dataset / name.split("_")[0] / "anat" / f"{name}_T1w.nii.gz"
        nib.Nifti1Image(np.zeros(size, np.uint8), np.eye(4)).to_filename(path)

    assert memory() == 4  # 1.5 GB, and 1.7 GB of the models, which do not depend on the image
    assert memory("--task-mem-gb", "9") == 9
    scan("sub-02_run-2", (4, 4, 4))
    assert memory("--cpus", "1") == 4
    assert memory("--cpus", "4") == 5  # two processes
    scan("sub-03", (512, 512, 300))  # 0.29 GB as float32: 0.6 + 16 times that for the bias field
    assert memory("--cpus", "1") == 7
    assert memory("--cpus", "1", "--participant-label", "01") == 4
    assert memory("--cpus", "1", "--participant-label", "01", "--reference", "sub-03") == 7
    scan("sub-03_run-2", (512, 512, 300))  # and with it in memory at once: 1.0 + 12 times both
    assert memory("--cpus", "1", "--longitudinal") == 10


def test_scripts_are_bash(dataset: Path, cluster: Path) -> None:
    call = [str(dataset), str(cluster / "o'ut"), "--script-dir", str(cluster / "s"), "--sbatch=--partition=x"]
    assert main([*call, "--template", "MNI152NLin2009aSym"]) == 0
    for name in ("array.sh", "check.sh", "submit.sh"):
        subprocess.run(["bash", "-n", str(cluster / "s" / name)], check=True)
    assert "#SBATCH --partition=x\n" in (cluster / "s" / "check.sh").read_text()


def test_the_check_names_what_is_missing_and_why(dataset: Path, cluster: Path) -> None:
    main([str(dataset), str(cluster / "out"), "--script-dir", str(cluster / "s"), "--template", "MNI152NLin2009aSym"])
    (cluster / "s/logs/7_1.log").write_text("12:00 ERROR sub-01_T1w.nii.gz failed (conform, code 65): truncated\n")
    done = subprocess.run(["bash", "check.sh", "7"], cwd=cluster / "s", capture_output=True, text=True)
    assert done.returncode == 1
    assert "sub-03_T1w.nii.gz" in done.stdout
    assert "code 65" in done.stdout


@pytest.mark.parametrize(
    ("extra", "code"), [(["--image", "no.sif"], 66), (["--no-such-option"], 64), (["--participant-label", "99"], 18)]
)
def test_wrong_calls(dataset: Path, cluster: Path, extra: list[str], code: int) -> None:
    call = [str(dataset), str(cluster / "out"), "--template", "MNI152NLin2009aSym", *extra]
    try:
        assert main(call) == code
    except SystemExit as stop:
        assert stop.code == code


def test_relative_paths_are_whole_ones_in_the_scripts_and_bound(
    dataset: Path, cluster: Path, bundle_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """submit.sh changes the folder; in a container only what is bound is there."""
    monkeypatch.chdir(bundle_folder.parent)
    (cluster / "imunity.sif").touch()
    call = [
        str(dataset),
        str(cluster / "out"),
        "--script-dir",
        str(cluster / "s"),
        "--image",
        str(cluster / "imunity.sif"),
    ]
    call += ["--bind", str(cluster / "more"), "--template", "MNI152NLin2009aSym", "--model", bundle_folder.name]
    assert main(call) == 0
    for name in ("array.sh", "check.sh"):
        script = (cluster / "s" / name).read_text()
        assert f"--model={bundle_folder}" in script
        assert f"--bind {bundle_folder}:{bundle_folder}:ro" in script
        assert f"--bind {cluster / 'more'}" in script


def test_scripts_do_not_go_into_the_dataset(dataset: Path, cluster: Path, capsys: pytest.CaptureFixture) -> None:
    call = [str(dataset), str(cluster / "out"), "--template", "MNI152NLin2009aSym"]
    assert main([*call, "--script-dir", str(dataset / "jobs")]) == 64
    assert "--script-dir" in capsys.readouterr().err
    assert not (dataset / "jobs").exists()
    assert main([str(dataset), str(dataset), "--template", "MNI152NLin2009aSym"]) == 64


def test_without_a_scheduler_it_says_so(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    call = [str(dataset), str(tmp_path / "out"), "--script-dir", str(tmp_path / "s"), "--submit"]
    assert main([*call, "--template", "MNI152NLin2009aSym"]) == 66
    assert "there is no sbatch here" in capsys.readouterr().err
    assert (tmp_path / "s" / "submit.sh").is_file()
