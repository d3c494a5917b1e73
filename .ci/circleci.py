"""circleci.py JOB [--through WORD…]: run the commands of a job of .circleci/config.yml here, in the current folder.

What CircleCI would do and this machine cannot is listed as SKIP, with the reason. --through puts words in front of the
shell, to be another user or to have other tools on the PATH. Without a JOB: list all commands.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import yaml

CONFIG = Path(__file__).parents[1] / ".circleci" / "config.yml"
SHELL = ("bash", "-eo", "pipefail", "-c")  # CircleCI's own
# (job, step): why it cannot run here
SKIPPED = {
    ("docker", "Save"): "2 GB that only the job deploy reads",
    ("singularity", "Apptainer"): "the PPA is Ubuntu's; .ci/apptainer-up.sh unpacks Debian's package instead",
    ("deploy", "Push both images under the tag"): "needs a registry and its token",
}


def commands(job: str) -> list[tuple[str, str]]:
    """(name, command) of the `run` steps of a job, in order."""
    steps = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["jobs"][job]["steps"]
    runs = [step["run"] for step in steps if isinstance(step, dict) and "run" in step]
    return [("", run) if isinstance(run, str) else (run.get("name", ""), run["command"]) for run in runs]


def jobs() -> list[str]:
    """Names of all jobs."""
    return list(yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["jobs"])


def run(job: str, through: list[str]) -> int:
    """Run the steps of a job until one fails; its exit code."""
    for name, command in commands(job):
        if reason := SKIPPED.get((job, name)):
            print(f"\n== SKIP {job}: {name}: {reason}", flush=True)
            continue
        print(f"\n== {job}: {name}\n{command.rstrip()}", flush=True)
        start = time.monotonic()
        code = subprocess.run([*through, *SHELL, command], check=False).returncode
        print(f"== {job}: {name}: {time.monotonic() - start:.0f} s, code {code}", flush=True)
        if code:
            return code
    return 0


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("job", nargs="?", choices=jobs())
    parser.add_argument("--through", nargs=argparse.REMAINDER, default=[])
    options = parser.parse_args()
    if options.job is None:
        for job in jobs():
            for name, _ in commands(job):
                print(f"{job}: {name}" + (f" (SKIP: {why})" if (why := SKIPPED.get((job, name))) else ""))
        return 0
    os.environ.setdefault("CIRCLE_SHA1", "local")
    return run(options.job, options.through)


if __name__ == "__main__":
    sys.exit(main())
