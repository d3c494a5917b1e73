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

from imunity_bids.bids.outputs import write_text
from imunity_bids.errors import DiskError, InputMissing, Usage
from imunity_bids.settings import Settings
from imunity_bids.workflows.workers import WorkersPlugin

log = logging.getLogger(__name__)

MULTIPROC = "MultiProc"  # runs as `WorkersPlugin`
QUEUE_TRIES = 10  # a busy queue may not answer at once


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
    runner = WorkersPlugin(arguments) if name == MULTIPROC else name
    try:
        workflow.run(plugin=runner, plugin_args=arguments)
    except (RuntimeError, NodeExecutionError) as error:  # its images are named, with their reason, by the caller
        log.debug("workflow ended with failed nodes: %s", error)
    finally:
        # where the first crash is to stop all, Nipype leaves its processes at work
        if isinstance(runner, WorkersPlugin):
            runner.pool.shutdown()
    if name == "SLURMGraph":
        _wait_for_slurm(settings.scratch)


def _wait_for_slurm(folder: Path, seconds: float = 5) -> None:
    """SLURMGraph returns when all is submitted: wait for our jobs, whose scripts are below `folder`.

    Those that depend on a failed one would stay in the queue forever; they are cancelled.
    """
    while True:
        ours = [(number, reason) for number, reason, script in _queue(seconds) if script.is_relative_to(folder)]
        never = [number for number, reason in ours if reason == "DependencyNeverSatisfied"]
        if never:
            subprocess.run(["scancel", *never], check=True)
        if len(never) == len(ours):
            return
        time.sleep(seconds)


def _queue(seconds: float) -> list[tuple[str, str, Path]]:
    """The user's jobs: number, reason for waiting, script. A scheduler that does not answer is asked again.

    Raises
    ------
    DiskError
        It does not answer `QUEUE_TRIES` times.
    """
    call = ["squeue", "--noheader", "--user", getpass.getuser(), "--format", "%i|%r|%o"]
    for _ in range(QUEUE_TRIES):
        answer = subprocess.run(call, capture_output=True, text=True)
        if answer.returncode == 0:
            jobs = [line.split("|", 2) for line in answer.stdout.splitlines()]
            return [(number, reason, Path(script)) for number, reason, script in jobs]
        log.warning("squeue does not answer: %s", answer.stderr.strip())
        time.sleep(seconds)
    raise DiskError(f"squeue failed {QUEUE_TRIES} times: {answer.stderr.strip()}; run the same command again later")


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
    write_text(folder / "nipype.cfg", "\n".join(lines))  # whole: other runs with this work folder read it
    os.environ |= {
        "NIPYPE_CONFIG_DIR": str(folder),
        "NIPYPE_NO_ET": "1",
        "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": str(settings.omp_nthreads),
        "OMP_NUM_THREADS": str(settings.omp_nthreads),
    }
    return options


def plugin(settings: Settings) -> tuple[str, dict[str, Any]]:
    """Name of Nipype's plugin and its arguments.

    Raises
    ------
    InputMissing, Usage
        `--use-plugin`: the file is missing, is no YAML, or names no plugin of Nipype.
    """
    if settings.plugin_file is None:
        if settings.nprocs == 1:
            return "Linear", {}
        return MULTIPROC, _multiproc(settings)
    import yaml
    from nipype.pipeline import plugins

    option = f"--use-plugin {settings.plugin_file}"
    try:
        content = yaml.safe_load(settings.plugin_file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputMissing(f"{option}: {getattr(error, 'strerror', None) or error}") from error
    except yaml.YAMLError as error:
        raise Usage(f"{option} is not YAML: {error}") from error
    if not isinstance(content, dict) or "plugin" not in content:
        raise Usage(f"{option}: needs a line plugin: NAME, and perhaps plugin_args:")
    name, arguments = content["plugin"], content.get("plugin_args") or {}
    known = sorted(plugin_name.removesuffix("Plugin") for plugin_name in dir(plugins) if plugin_name.endswith("Plugin"))
    if name not in known:
        raise Usage(f"{option}: Nipype has no plugin {name}; it has {', '.join(known)}")
    if not isinstance(arguments, dict):
        raise Usage(f"{option}: plugin_args must be a mapping of names to values")
    return name, _multiproc(settings) | arguments if name == MULTIPROC else dict(arguments)


def _multiproc(settings: Settings) -> dict[str, Any]:
    return {
        "n_procs": settings.nprocs,
        "memory_gb": settings.mem_gb,
        "n_gpu_procs": settings.omp_nthreads,  # a step asks for as many slots as threads: one of them at a time
        "raise_insufficient": False,
        "mp_context": "forkserver",  # torch and CUDA do not survive a plain fork
    }
