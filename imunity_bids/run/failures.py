"""What a run did not get done, and why: one line for a person, one code for a script."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace

from imunity_bids.bids.inputs import check_twin
from imunity_bids.errors import OK, SOME_FAILED, DiskError, ImunityError
from imunity_bids.image.conform import check_readable
from imunity_bids.plan.crash import Failure, crash_file, read_crash, reference_crash_file, write_crash
from imunity_bids.plan.plan import Plan, is_done
from imunity_bids.settings import Settings


def set_unreadable_aside(plan: Plan) -> tuple[Plan, list[Failure]]:
    """Images whose file cannot be opened (broken links, data not fetched) fail before the workflow starts."""
    readable, failures = [], []
    for image in plan.images:
        try:
            check_readable(image.path)
            check_twin(image)
            readable.append(image)
        except ImunityError as error:
            write_crash(crash_file(plan, image), "reading", error)
            failures.append(Failure(image, error.code, "reading", str(error)))
    return replace(plan, images=tuple(readable)), failures


def gather_failures(plan: Plan) -> list[Failure]:
    """The images of a plan that were run and are not done."""
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


def exit_code(plan: Plan, failures: list[Failure]) -> int:
    """0; 1 where some image failed; the images' own code where all failed alike."""
    if not failures:
        return OK
    codes = Counter(failure.code for failure in failures)
    return next(iter(codes)) if len(codes) == 1 and len(failures) == len(plan.images) and not plan.done else SOME_FAILED
