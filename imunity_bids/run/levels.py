"""The two levels of the app: from settings to files and an exit code."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from imunity_bids.bids.links import linked_folders
from imunity_bids.bids.outputs import remove_strays, write_text
from imunity_bids.bids.scan import T1w
from imunity_bids.bids.sidecars import BIDSIGNORE, dataset_links, write_dataset_files
from imunity_bids.errors import OK, SOME_FAILED, InputMissing
from imunity_bids.plan.crash import Failure
from imunity_bids.plan.plan import Plan, is_done, make_plan
from imunity_bids.reports.methods import citation
from imunity_bids.run.failures import exit_code, gather_failures, set_unreadable_aside
from imunity_bids.run.folders import check_folders, make_output
from imunity_bids.run.manifest import write_manifest
from imunity_bids.run.reporter import Reporter
from imunity_bids.run.scratch import scratch_folder
from imunity_bids.run.turns import turn
from imunity_bids.settings import Settings

if TYPE_CHECKING:
    from nipype import Workflow

log = logging.getLogger(__name__)

LOCAL = ("Linear", "MultiProc")  # plugins that run on this machine
GROUP = 8  # images per process and workflow: enough to keep all processes busy, few enough for the disk


def participant_level(settings: Settings) -> int:
    """Harmonize; returns 0, 1 where some image failed, or the images' own code where all failed alike."""
    check_folders(settings)
    if not settings.dry_run:
        make_output(settings)
    plan = make_plan(settings)
    plan = replace(plan, settings=settings.shared_out(len(plan.images)))
    if settings.dry_run:
        print(_listing(plan))
        return OK
    from imunity_bids.workflows.participants import methods_text

    plan = replace(plan, settings=_ready(plan.settings))
    with _log_file(settings):
        methods = methods_text(plan)
        _prepare(plan, methods)
        failures, left, reporter = [], len(plan.images), Reporter(plan, methods)
        with scratch_folder(settings) as scratch:
            if not settings.reports_only and plan.images:
                at_work = replace(plan, settings=replace(plan.settings, work_dir=scratch))
                failures, left = _run(at_work, bool(settings.work_dir), reporter)
            _conclude(reporter, failures, left)
        code = exit_code(plan, failures) or (SOME_FAILED if reporter.unreported else OK)
        write_manifest(plan, failures, reporter.unreported, code)
    return code


def group_level(settings: Settings) -> int:
    """Compare the sites, and gather the measures of all participants."""
    from imunity_bids.reports.group import write_group

    if not settings.output_dir.is_dir():
        raise InputMissing(f"OUTPUT_DIR {settings.output_dir} does not exist; run the participant level first")
    check_folders(settings)
    cohort = write_group(settings)
    write_text(settings.output_dir / ".bidsignore", BIDSIGNORE)  # an earlier version's knows less
    log.info("%d images in %s", len(cohort.images), settings.output_dir / "group.html")
    return OK


def _ready(settings: Settings) -> Settings:
    """Raise at once, not after the first image's registration, where a plugin or a device is not there.

    With a plugin of one's own the steps run elsewhere, on machines whose devices are not known here.
    """
    from imunity_bids.models.device import resolve_device
    from imunity_bids.workflows.execute import plugin

    name, _ = plugin(settings)
    return replace(settings, device=resolve_device(settings.device)) if name in LOCAL else settings


def _listing(plan: Plan) -> str:
    references = ", ".join(f"{r.label} ({r.kind})" for r in plan.references)
    lines = [f"model {plan.card['name']} {plan.card['version']}, space {plan.space}, reference {references}"]
    lines += [f"run   {image.path}" for image in plan.images]
    lines += [f"done  {image.path}" for image in plan.done]
    return "\n".join(lines)


@contextmanager
def _log_file(settings: Settings) -> Iterator[None]:
    """All messages of the run go into logs/, too."""
    handler = logging.FileHandler(settings.logs / f"imunity_{settings.run_id}.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    ours = logging.getLogger("imunity_bids")
    ours.addHandler(handler)
    try:
        yield
    finally:
        ours.removeHandler(handler)
        handler.close()


def _prepare(plan: Plan, methods: str) -> None:
    settings = plan.settings
    for folder in (settings.output_dir, settings.logs):
        remove_strays(folder)
    write_text(settings.logs / f"imunity_{settings.run_id}.toml", settings.to_toml())
    write_dataset_files(settings.output_dir, _links(settings), citation(methods))
    if status := plan.card.get("status"):
        log.warning("model %s %s: %s", plan.card["name"], plan.card["version"], status)
    log.info(
        "%d images to do, %d done before; %d processes of %d threads",
        len(plan.images),
        len(plan.done),
        settings.nprocs // settings.omp_nthreads,
        settings.omp_nthreads,
    )


def _links(settings: Settings) -> dict[str, str]:
    return dataset_links(settings.output_dir, settings.bids_dir, linked_folders(settings))


def _run(plan: Plan, keep: bool, reporter: Reporter) -> tuple[list[Failure], int]:
    """Run the workflow, a group of images at a time, and report each; intermediate files stay if the user wants to
    `keep` them.

    Returns the failures, and how many images were not begun (`--stop-on-first-crash`).

    Images go in groups, since their intermediate files lie on the disk until the group is done; where one process works
    alone, one by one: it would do a step of all of them before the next step. A cluster's queue gets all at once.
    """
    from imunity_bids.workflows.execute import Progress, execute
    from imunity_bids.workflows.participants import init_participants_wf

    settings = plan.settings
    processes = settings.nprocs // settings.omp_nthreads
    size = len(plan.images) if settings.plugin_file else GROUP * processes if processes > 1 else 1
    plan, failures = set_unreadable_aside(plan)
    if settings.write_graph:
        _draw(init_participants_wf(plan), settings.logs / "workflow.dot")
    with Progress(len(plan.images)) as progress:
        for images, left in _groups(plan.images, size):
            with turn(settings.output_dir, (image.subject for image in images)) as waited:
                group = replace(plan, images=_still_to_do(plan, images) if waited else images)
                workflow = init_participants_wf(group)
                execute(workflow, group.settings, progress)
                failures += gather_failures(group)
                reporter.report(images, failures)
                if not keep:
                    shutil.rmtree(settings.scratch / workflow.name, ignore_errors=True)
            if failures and settings.stop_on_first_crash:
                return failures, left
    return failures, 0


def _still_to_do(plan: Plan, images: tuple[T1w, ...]) -> tuple[T1w, ...]:
    """Without what another run has done meanwhile in the same way."""
    return tuple(image for image in images if plan.settings.force or not is_done(plan, image))


def _groups(images: tuple[T1w, ...], size: int) -> Iterator[tuple[tuple[T1w, ...], int]]:
    """So many images at a time, and how many come after them; those of a person stay together, as they may share."""
    while images:
        end = size
        while end < len(images) and images[end].subject == images[end - 1].subject:
            end += 1
        yield images[:end], len(images[end:])
        images = images[end:]


def _draw(workflow: Workflow, path: Path) -> None:
    """The workflow as text for graphviz, and as a picture where graphviz is installed."""
    try:
        workflow.write_graph(str(path), graph2use="colored", simple_form=True)
    except OSError as error:
        log.warning("%s is written, but not drawn: %s", path, error)


def _conclude(reporter: Reporter, failures: list[Failure], left: int) -> None:
    """What the groups have not reported, one line for every failure, and what was done."""
    from imunity_bids.reports.visits import write_visits

    plan, out = reporter.plan, reporter.plan.settings.output_dir
    images = [*plan.images, *plan.done]
    reporter.report(images, failures)
    reporter.unreported += write_visits(plan, {failure.image.stem for failure in failures})
    write_dataset_files(out, _links(plan.settings), citation(reporter.methods))
    for failure in failures:
        log.error("%s failed (%s, code %d): %s", failure.image.path, failure.step, failure.code, failure.message)
    done = len(images) - len(failures) - left
    not_begun = f", {left} not begun" if left else ""
    log.info("%d images done, %d failed%s; reports in %s", done, len(failures), not_begun, out)
