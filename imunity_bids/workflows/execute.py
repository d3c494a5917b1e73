"""Run a workflow with a plugin, and say how far it is."""

from __future__ import annotations

import getpass
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from imunity_bids.errors import InputMissing, Usage
from imunity_bids.settings import Settings

log = logging.getLogger(__name__)


class Progress:
    """A bar on a terminal (images done, step, time left); else one log line per finished image."""

    def __init__(self, images: int):
        self.images = images
        self.finished: set[str] = set()
        self.bar = tqdm(total=images, unit="image", disable=not sys.stderr.isatty(), dynamic_ncols=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def __call__(self, node: Any, status: str) -> None:
        """Nipype's status callback."""
        if status == "start":
            self.bar.set_postfix_str(node.fullname.partition(".")[2])
        elif status == "end" and node.name.startswith("finish_"):
            source = Path(node.inputs.source).name
            if source not in self.finished:
                self.finished.add(source)
                self.bar.update()
                log.info("image %d of %d done: %s", len(self.finished), self.images, source)
        elif status == "exception":
            log.warning("step %s failed; the other images go on", node.fullname)


def execute(workflow: Any, settings: Settings, progress: Progress) -> None:
    """Run all nodes; a failed node stops its own branch only and is no error here.

    Raises
    ------
    InputMissing, Usage
        The plugin file is missing or is not one.
    """
    from nipype.pipeline.engine.nodes import NodeExecutionError

    options = _configure(settings)
    for part, values in options.items():  # the workflow took its own copy of the options when it was built
        workflow.config[part] = {**workflow.config.get(part, {}), **values}
    name, arguments = plugin(settings)
    arguments["status_callback"] = progress
    try:
        workflow.run(plugin=name, plugin_args=arguments)
    except (RuntimeError, NodeExecutionError) as error:  # its images are named, with their reason, by the caller
        log.debug("workflow ended with failed nodes: %s", error)
    if name == "SLURMGraph":
        _wait_for_slurm(settings.scratch)


def _wait_for_slurm(folder: Path, seconds: float = 5) -> None:
    """SLURMGraph returns when all is submitted: wait for our jobs, whose scripts are below `folder`.

    Those that depend on a failed one would stay in the queue forever; they are cancelled.
    """
    while True:
        listing = subprocess.run(
            ["squeue", "--noheader", "--user", getpass.getuser(), "--format", "%i|%r|%o"],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        jobs = [line.split("|", 2) for line in listing.splitlines()]
        ours = [(number, reason) for number, reason, command in jobs if Path(command).is_relative_to(folder)]
        if dead := [number for number, reason in ours if reason == "DependencyNeverSatisfied"]:
            subprocess.run(["scancel", *dead], check=True)
        if len(dead) == len(ours):
            return
        time.sleep(seconds)


def _configure(settings: Settings) -> dict[str, dict[str, str]]:
    """Nipype's options, here and, by a file, in its worker processes; nothing is read from or written to HOME."""
    from nipype import config
    from nipype import logging as nipype_logging

    folder = settings.scratch / "nipype"
    folder.mkdir(parents=True, exist_ok=True)
    level = "INFO" if settings.verbosity > 1 else "CRITICAL"
    options = {
        "execution": {
            "crashdump_dir": str(folder),
            "crashfile_format": "txt",
            "check_version": "false",
            "remove_unnecessary_outputs": "false",
            "stop_on_first_crash": str(settings.stop_on_first_crash).lower(),
            "poll_sleep_duration": "0.5",
        },
        "logging": {"workflow_level": level, "interface_level": level, "utils_level": level, "log_to_file": "false"},
    }
    config.update_config(options)
    nipype_logging.update_logging(config)
    lines = [f"[{part}]\n" + "".join(f"{k} = {v}\n" for k, v in values.items()) for part, values in options.items()]
    (folder / "nipype.cfg").write_text("\n".join(lines))
    os.environ |= {
        "NIPYPE_CONFIG_DIR": str(folder),
        "NIPYPE_NO_ET": "1",
        "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": str(settings.omp_nthreads),
        "OMP_NUM_THREADS": str(settings.omp_nthreads),
    }
    return options


def plugin(settings: Settings) -> tuple[str, dict[str, Any]]:
    """Nipype plugin and its arguments."""
    if settings.plugin_file is None:
        if settings.nprocs == 1:
            return "Linear", {}
        return "MultiProc", {
            "n_procs": settings.nprocs,
            "memory_gb": settings.mem_gb,
            "raise_insufficient": False,
            "mp_context": "forkserver",  # torch and CUDA do not survive a plain fork
        }
    import yaml

    try:
        content = yaml.safe_load(settings.plugin_file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputMissing(f"--use-plugin {settings.plugin_file}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise Usage(f"--use-plugin {settings.plugin_file} is not YAML: {error}") from error
    if not isinstance(content, dict) or "plugin" not in content:
        raise Usage(f"--use-plugin {settings.plugin_file}: needs a line plugin: NAME, and perhaps plugin_args:")
    return content["plugin"], dict(content.get("plugin_args", {}))
