"""What CI says is what runs here: the commands of config.yml, their exit codes, and the stand-ins for docker."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from imunity_bids import errors
from imunity_bids.cli.run import main

ROOT = Path(__file__).parents[1]
CODES = {error.code for error in vars(errors).values() if isinstance(error, type) and issubclass(error, Exception)}


@pytest.fixture(scope="module")
def ci() -> ModuleType:
    spec = spec_from_file_location("circleci", ROOT / ".ci" / "circleci.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def relied_on(script: str) -> set[str]:
    """Jobs whose commands a script of .ci/ runs."""
    text = (ROOT / ".ci" / script).read_text()
    return set(re.findall(r"(?:circleci\.py|(?<!pip )\bconfig) (\w+)", text))


def test_every_job_runs_here_by_its_own_commands(ci: ModuleType) -> None:
    assert relied_on("run") | relied_on("containers.sh") == set(ci.jobs())
    for job in ci.jobs():
        assert all(name and command.strip() for name, command in ci.commands(job)), job
    steps = {(job, name) for job in ci.jobs() for name, _ in ci.commands(job)}
    assert set(ci.SKIPPED) <= steps, "a step was renamed"


def test_the_check_job_is_what_the_readme_says(ci: ModuleType) -> None:
    assert [command for _, command in ci.commands("check")] == ["make test", "make demo"]
    targets = (ROOT / "Makefile").read_text()
    assert all(re.search(rf"^{name}:", targets, re.M) for name in ("test", "demo"))


@pytest.mark.parametrize("job", ["check", "docker", "singularity", "deploy"])
def test_commands_are_bash(ci: ModuleType, job: str) -> None:
    for name, command in ci.commands(job):
        assert subprocess.run(["bash", "-n", "-c", command]).returncode == 0, name


def test_scripts_are_bash() -> None:
    for script in [ROOT / ".ci" / "run", *(ROOT / ".ci").glob("*.sh"), *(ROOT / ".ci" / "shims").iterdir()]:
        assert subprocess.run(["bash", "-n", script]).returncode == 0, script
        assert os.access(script, os.X_OK), script


def test_exit_codes_of_the_config_are_those_of_the_app(ci: ModuleType, tmp_path: Path) -> None:
    """`expect CODE ARGUMENTS…` of the docker job, with the same arguments, here."""
    command = dict(ci.commands("docker"))["Exit codes pass through"]
    calls = [shlex.split(line)[1:] for line in command.splitlines() if re.match(r"expect \d", line)]
    assert {int(code) for code, *_ in calls} >= {errors.InputMissing.code, errors.NotBids.code}
    (tmp_path / "empty").mkdir()
    for code, *arguments in calls:
        here = [re.sub(r"^/(empty|out)$", rf"{tmp_path}/\1", word) for word in arguments]
        try:
            found = main([*here, "--template", "MNI152NLin2009aSym"])
        except SystemExit as stop:
            found = stop.code
        assert int(code) in CODES
        assert found == int(code), arguments


def test_codes_that_the_scripts_expect_are_the_apps() -> None:
    text = (ROOT / ".ci" / "containers.sh").read_text()
    expected = {int(code) for code in re.findall(r"expect (\d+) ", text)}
    assert expected == CODES | {errors.OK, errors.SOME_FAILED}


def test_a_job_stops_at_what_fails_and_names_what_it_skips(ci: ModuleType, capfd: pytest.CaptureFixture) -> None:
    done = subprocess.run([sys.executable, ROOT / ".ci" / "circleci.py", "deploy"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "SKIP deploy: Push both images" in done.stdout
    assert ci.run("check", ["echo"]) == 0
    assert "bash -eo pipefail -c make demo" in capfd.readouterr().out
    assert ci.run("check", ["false"]) == 1
    assert "Demo" not in capfd.readouterr().out


def test_docker_by_podman(ci: ModuleType, tmp_path: Path) -> None:
    """The docker job's own commands through .ci/shims, with tools that say what they were asked."""
    tools, checkout = tmp_path / "tools", tmp_path / "checkout"
    tools.mkdir()
    checkout.mkdir()
    for tool in ("buildah", "podman"):
        # `podman image exists` says no; /nowhere is missing and so on, as the app would have it
        (tools / tool).write_text(
            f'#!/bin/bash\necho {tool} "$@" >>{tmp_path}/calls\n'
            'case "$*" in *exists*) exit 1 ;; *nowhere*) exit 66 ;; *persons*) exit 17 ;; *no-such*) exit 64 ;;\n'
            '    *"imunity /empty /out participant"*) exit 16 ;; esac\n'
        )
        (tools / tool).chmod(0o755)
    (tmp_path / "mounts").write_text("-v\n/a b:/c:ro\n")
    environment = {
        **os.environ,
        "PATH": f"{ROOT / '.ci' / 'shims'}:{tools}:{os.environ['PATH']}",
        "CIRCLE_SHA1": "abc",
        "IMUNITY_CI_KEY": "key",
        "IMUNITY_CI_MOUNTS": str(tmp_path / "mounts"),
        "IMUNITY_CI_TEMPLATES": "X",
        "IMUNITY_CI_LOG": str(tmp_path / "log"),
    }
    for name, command in ci.commands("docker"):
        if "docker run" in command or "docker build" in command:
            done = subprocess.run([*ci.SHELL, command], cwd=checkout, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, (name, done.stderr)
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls[1] == (
        "buildah bud --isolation chroot --layers=false -v /a b:/c:ro --build-arg TEMPLATES=X -t localhost/imunity:key "
        "-t imunity --build-arg VERSION=abc --build-arg TORCH=torch==2.13.0 ."
    )
    assert calls[3].startswith("podman run --read-only-tmpfs=false --rm -u 12345:12345 --network none --read-only -v ")
    assert calls[3].endswith("--entrypoint imunity-demo imunity /out")
    assert sum("podman run --rm -v" in call for call in calls) == 4


def test_apptainer_with_this_machines_certificates(ci: ModuleType, tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.write_text('#!/bin/bash\necho "$APPTAINERENV_PIP_CONFIG_FILE $*" >&2\n')
    real.chmod(0o755)
    shim = ROOT / ".ci" / "shims" / "apptainer"
    environment = {
        **os.environ,
        "IMUNITY_CI_APPTAINER": str(real),
        "IMUNITY_CI_SIF": str(tmp_path / "cached.sif"),
        "IMUNITY_CI_MNT": "/m",
        "IMUNITY_CI_TEMPLATES": "X",
        "IMUNITY_CI_LOG": str(tmp_path / "log"),
    }
    build = shlex.split(dict(ci.commands("singularity"))["Build and test the image"].splitlines()[0])
    assert build[:2] == ["apptainer", "build"]

    def run(*words: str) -> str:
        done = subprocess.run([shim, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        return done.stderr

    assert run("test", "imunity.sif").strip() == "test imunity.sif"
    assert run(*build[1:]) == ""
    assert (tmp_path / "log").read_text().startswith("/mnt/pip.conf build --mksquashfs-args -comp zstd")
    assert (tmp_path / "log").read_text().rstrip().endswith("imunity.sif Singularity.def")
    (tmp_path / "cached.sif").write_text("built before")
    run(*build[1:])
    assert (tmp_path / "imunity.sif").read_text() == "built before"


@pytest.mark.parametrize("name", ["Singularity.def", "containers/install.sh"])
def test_what_the_images_import_is_there(name: str) -> None:
    """A name that moved to another file ended the build of the image after a quarter of an hour."""
    text = (ROOT / name).read_text(encoding="utf-8")
    imports = re.findall(r"from (imunity_bids[\w.]*) import ([\w, ]+)", text)
    assert imports
    for module, names in imports:
        for wanted in names.split(","):
            assert hasattr(importlib.import_module(module), wanted.strip()), f"{name}: {module}.{wanted.strip()}"
