"""The two levels of the app: from settings to files and an exit code."""

from __future__ import annotations

import logging
import os
import shutil
from collections import Counter
from dataclasses import dataclass, replace

from imunity_bids.bids.inputs import T1w
from imunity_bids.bids.outputs import write_text
from imunity_bids.bids.plan import Plan, make_plan
from imunity_bids.errors import OK, SOME_FAILED, DiskError, InputMissing, OutputImpossible, Usage
from imunity_bids.scratch import scratch_folder
from imunity_bids.settings import Settings

log = logging.getLogger(__name__)

GROUP = 4  # images per process and group: enough to keep all processes busy, few enough for the disk


@dataclass(frozen=True)
class Failure:
    """Why an image did not come out."""

    image: T1w
    code: int
    step: str
    message: str


def participant_level(settings: Settings) -> int:
    """Harmonize; returns 0, 1 where some image failed, or the images' own code where all failed alike."""
    _check_output(settings)
    plan = make_plan(settings)
    settings = _share_out(settings, len(plan.images))
    plan = replace(plan, settings=settings)
    if settings.dry_run:
        print(_listing(plan))
        return OK
    _prepare(plan)
    with scratch_folder(settings) as scratch:
        failures: list[Failure] = []
        if not settings.reports_only and plan.images:
            failures = _run(replace(plan, settings=replace(settings, work_dir=scratch)), keep=bool(settings.work_dir))
        _conclude(plan, failures)
    return _exit_code(plan, failures)


def group_level(settings: Settings) -> int:
    """Gather the quality measures of all participants."""
    from imunity_bids.reports.group import write_group

    if not settings.output_dir.is_dir():
        raise InputMissing(f"OUTPUT_DIR {settings.output_dir} does not exist; run the participant level first")
    table = write_group(settings.output_dir)
    log.info("%d images in %s", len(table), settings.output_dir / "group.html")
    return OK


def _check_output(settings: Settings) -> None:
    if settings.output_dir == settings.bids_dir:
        raise Usage("OUTPUT_DIR is BIDS_DIR; nothing is ever written into the source dataset, name another folder")
    if settings.dry_run:
        return
    try:
        settings.logs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputImpossible(f"OUTPUT_DIR {settings.output_dir} cannot be created: {error.strerror}") from error
    if not os.access(settings.output_dir, os.W_OK) or not os.access(settings.logs, os.W_OK):
        raise OutputImpossible(f"OUTPUT_DIR {settings.output_dir} cannot be written: permission denied")


def _share_out(settings: Settings, images: int) -> Settings:
    """Threads per step, where the user did not say: all cores for one image, else one core for each of them."""
    threads = settings.omp_nthreads or max(1, min(8, settings.nprocs // max(1, images)))
    return replace(settings, omp_nthreads=min(threads, settings.nprocs))


def _listing(plan: Plan) -> str:
    references = ", ".join(f"{r.label} ({r.kind})" for r in plan.references)
    lines = [f"model {plan.card['name']} {plan.card['version']}, space {plan.space}, reference {references}"]
    lines += [f"run   {image.path}" for image in plan.images]
    lines += [f"done  {image.path}" for image in plan.done]
    return "\n".join(lines)


def _prepare(plan: Plan) -> None:
    from imunity_bids.bids.sidecars import write_dataset_files
    from imunity_bids.reports.methods import citation

    settings = plan.settings
    handler = logging.FileHandler(settings.logs / f"imunity_{settings.run_id}.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.getLogger("imunity_bids").addHandler(handler)
    write_text(settings.logs / f"imunity_{settings.run_id}.toml", settings.to_toml())
    write_dataset_files(settings.output_dir, settings.bids_dir, citation(plan))
    if status := plan.card.get("status"):
        log.warning("model %s %s: %s", plan.card["name"], plan.card["version"], status)
    if settings.clean_workdir and settings.work_dir and settings.work_dir.exists():
        shutil.rmtree(settings.work_dir)
    log.info(
        "%d images to do, %d done before; %d processes of %d threads",
        len(plan.images),
        len(plan.done),
        settings.nprocs // settings.omp_nthreads,
        settings.omp_nthreads,
    )


def _run(plan: Plan, keep: bool) -> list[Failure]:
    """Run the workflow, a group of images at a time; intermediate files stay if the user wants to `keep` them.

    Nipype goes through a graph breadth first: all images would be half done, and their intermediate files on the disk,
    before the first is finished. So images go in groups, unless a cluster's queue does the ordering.
    """
    from imunity_bids.workflows.execute import Progress, execute
    from imunity_bids.workflows.participants import init_participants_wf

    settings = plan.settings
    size = len(plan.images) if settings.plugin_file else GROUP * max(1, settings.nprocs // settings.omp_nthreads)
    plan, failures = _set_unreadable_aside(plan)
    with Progress(len(plan.images)) as progress:
        for start in range(0, len(plan.images), size):
            group = replace(plan, images=plan.images[start : start + size])
            workflow = init_participants_wf(group)
            if settings.write_graph:
                workflow.write_graph(str(settings.logs / "workflow.dot"), graph2use="colored", simple_form=True)
            execute(workflow, group.settings, progress)
            failures += _failures(group)
            if not keep:
                shutil.rmtree(settings.scratch / workflow.name, ignore_errors=True)
            if failures and settings.stop_on_first_crash:
                break
    return failures


def _set_unreadable_aside(plan: Plan) -> tuple[Plan, list[Failure]]:
    """Images whose file cannot be opened (broken links, data not fetched) fail before the workflow starts."""
    from imunity_bids.errors import ImunityError
    from imunity_bids.image.conform import check_readable
    from imunity_bids.interfaces.base import write_crash
    from imunity_bids.workflows.participants import crash_file

    readable, failures = [], []
    for image in plan.images:
        try:
            check_readable(image.path)
            readable.append(image)
        except ImunityError as error:
            write_crash(crash_file(plan, image), "reading", error)
            failures.append(Failure(image, error.code, "reading", str(error)))
    return replace(plan, images=tuple(readable)), failures


def _failures(plan: Plan) -> list[Failure]:
    from imunity_bids.bids.plan import is_done
    from imunity_bids.interfaces.base import read_crash
    from imunity_bids.workflows.participants import crash_file, reference_crash_file

    common = [read_crash(p) for r in plan.references if (p := reference_crash_file(plan, r)).is_file()]
    failures = []
    for image in plan.images:
        if (path := crash_file(plan, image)).is_file():
            failures.append(Failure(image, **read_crash(path)))
        elif not is_done(plan, image):
            failures.append(Failure(image, **(common[0] if common else _unexplained(plan.settings))))
    return failures


def _unexplained(settings: Settings) -> dict[str, object]:
    """Nothing was left behind: the disk is full, or a reference failed, or a worker was killed."""
    if shutil.disk_usage(settings.output_dir).free < 64 * 2**20:
        return {"code": DiskError.code, "step": "-", "message": f"no space left in {settings.output_dir}"}
    message = "did not run: its reference failed, or a worker was killed (out of memory?); run the same command again"
    return {"code": SOME_FAILED, "step": "-", "message": message}


def _conclude(plan: Plan, failures: list[Failure]) -> None:
    """Tables, reports, and one line for every failure."""
    from imunity_bids.bids.sidecars import write_dataset_files
    from imunity_bids.bids.tables import write_scans_tables
    from imunity_bids.reports.methods import citation
    from imunity_bids.reports.participant import write_reports

    images = [*plan.images, *plan.done]
    write_scans_tables(plan, images)
    write_reports(plan, images, {f.image.stem: f for f in failures})
    write_dataset_files(plan.settings.output_dir, plan.settings.bids_dir, citation(plan))
    for failure in failures:
        log.error("%s failed (%s, code %d): %s", failure.image.path, failure.step, failure.code, failure.message)
    done = len(images) - len(failures)
    log.info("%d images done, %d failed; reports in %s", done, len(failures), plan.settings.output_dir)


def _exit_code(plan: Plan, failures: list[Failure]) -> int:
    if not failures:
        return OK
    codes = Counter(failure.code for failure in failures)
    return next(iter(codes)) if len(codes) == 1 and len(failures) == len(plan.images) and not plan.done else SOME_FAILED
