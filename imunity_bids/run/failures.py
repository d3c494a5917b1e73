"""What a run did not get done, and why: one line for a person, one code for a script."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace
from typing import Any

from imunity_bids.bids.inputs import check_twin
from imunity_bids.bids.scan import T1w
from imunity_bids.errors import OK, SOME_FAILED, DiskError, ImunityError
from imunity_bids.image.conform import check_readable
from imunity_bids.plan.crash import (
    Failure,
    crash_file,
    person_crash_file,
    read_crash,
    reference_crash_file,
    write_crash,
)
from imunity_bids.plan.plan import Plan, await_marks, is_done
from imunity_bids.settings import Settings


def set_unreadable_aside(plan: Plan) -> tuple[Plan, list[Failure]]:
    """Images whose file cannot be opened (broken links, data not fetched) fail before the workflow starts.

    With `--longitudinal` so do the other scans of the person.
    """
    readable, failures = [], []
    for image in plan.images:
        try:
            for scan in plan.visits(image) or (image,):
                check_readable(scan.path)
                check_twin(scan)
            readable.append(image)
        except ImunityError as error:
            write_crash(crash_file(plan, image), "reading", error)
            failures.append(Failure(image, error.code, "reading", str(error)))
    return replace(plan, images=tuple(readable)), failures


def gather_failures(plan: Plan) -> list[Failure]:
    """The images of a plan that were run and are not done, each with its reason, or its reference's."""
    failures = []
    for image in plan.images:
        if (path := crash_file(plan, image)).is_file():
            failures.append(Failure(image, **read_crash(path)))
        elif not is_done(plan, image) and (reason := _reason(plan, image)):
            failures.append(Failure(image, **reason))
    return failures


def _reason(plan: Plan, image: T1w) -> dict[str, Any] | None:
    """Why an image without a crash file is not done; None where another run has made it meanwhile."""
    if known := _of_means(plan, image) or _of_visits(plan, image):
        return known
    await_marks(plan, image)
    return None if is_done(plan, image) else _unexplained(plan.settings)


def _of_means(plan: Plan, image: T1w) -> dict[str, Any] | None:
    """What the crash file of a reference or of the site's mean, or of a scan that it is made from, says."""
    for mean in plan.made_of(image):
        files = [(mean.label, reference_crash_file(plan, mean))]
        files += [(scan.path.name, crash_file(plan, scan)) for scan in mean.images]
        for name, path in files:
            if path.is_file():
                crash = read_crash(path)
                if mean in plan.references:
                    return crash | {"message": f"its reference {mean.label} failed ({name}): {crash['message']}"}
                hint = "leave it out by --exclude-participant-label"
                return crash | {"message": f"--curve site: {name} failed: {crash['message']}; {hint}"}
    return None


def _of_visits(plan: Plan, image: T1w) -> dict[str, Any] | None:
    """What the crash file of a scan with which it shares mask and affine says, or that of the space between them."""
    files = [(visit.path.name, crash_file(plan, visit)) for visit in plan.visits(image)]
    files += [("the space between its scans", person_crash_file(plan, image.subject))]
    for name, path in files:
        if path.is_file():
            crash = read_crash(path)
            hint = "leave it out (--session-label, --bids-filter-file) or run without --longitudinal"
            return crash | {"message": f"--longitudinal: {name} failed: {crash['message']}; {hint}"}
    return None


def _unexplained(settings: Settings) -> dict[str, Any]:
    """Nothing was left behind: the disk is full, or the whole run was stopped."""
    if shutil.disk_usage(settings.output_dir).free < 64 * 2**20:
        return {"code": DiskError.code, "step": "-", "message": f"no space left in {settings.output_dir}"}
    message = "did not run to its end, and nothing says why (killed by the cluster?); run the same command again"
    return {"code": SOME_FAILED, "step": "-", "message": message}


def exit_code(plan: Plan, failures: list[Failure]) -> int:
    """0; 1 where some image failed; the images' own code where all failed alike."""
    if not failures:
        return OK
    codes = Counter(failure.code for failure in failures)
    return next(iter(codes)) if len(codes) == 1 and len(failures) == len(plan.images) and not plan.done else SOME_FAILED
