"""What a run did, as one JSON file for workflow managers: inputs, outcomes with their codes, outputs, versions."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from imunity_bids.bids.outputs import sidecar_of, write_json
from imunity_bids.bids.scan import T1w
from imunity_bids.bids.sidecars import software
from imunity_bids.errors import OK
from imunity_bids.plan.crash import Failure, crash_file
from imunity_bids.plan.plan import Plan, is_done

log = logging.getLogger(__name__)

DONE, KEPT, FAILED, NOT_BEGUN = "done", "done before", "failed", "not begun"


def write_manifest(plan: Plan, failures: list[Failure], unreported: list[str], code: int) -> Path:
    """`logs/imunity_<run>.json`, written last: a run without it did not come to its end.

    Parameters
    ----------
    unreported
        Persons whose report could not be written.
    code
        The run's exit code.
    """
    settings, failed = plan.settings, {failure.image.stem: failure for failure in failures}
    path = settings.logs / f"imunity_{settings.run_id}.json"
    images = sorted((*plan.images, *plan.done), key=lambda image: image.stem)
    content = {
        "Run": settings.run_id,
        "ExitCode": code,
        "BIDSDir": str(settings.bids_dir),
        "OutputDir": str(settings.output_dir),
        "Options": f"logs/imunity_{settings.run_id}.toml",
        "Log": f"logs/imunity_{settings.run_id}.log",
        "Software": software(),
        "Bundle": {"Name": plan.card["name"], "Version": plan.card["version"]},
        "References": [{"Label": r.label, "Type": r.kind, "SHA256": r.sha256} for r in plan.references],
        "ReportsFailed": unreported,
        "Images": [_entry(plan, image, failed.get(image.stem)) for image in images],
    }
    log.info("what was done: %s", path)
    return write_json(path, content)


def _entry(plan: Plan, image: T1w, failure: Failure | None) -> dict[str, Any]:
    """One image: its outcome, and why, or what was made of it."""
    entry: dict[str, Any] = {"Input": image.uri}
    if failure:
        entry |= {"Outcome": FAILED, "ExitCode": failure.code, "Step": failure.step, "Reason": failure.message}
        crash = crash_file(plan, image)
        return entry | ({"CrashFile": f"logs/{crash.name}"} if crash.is_file() else {})
    before = image in plan.done
    if not before and not is_done(plan, image):
        return entry | {"Outcome": NOT_BEGUN}
    out = plan.settings.output_dir
    made = {description: _made(plan, image, description) for description in plan.descriptions}
    return entry | {
        "Outcome": KEPT if before else DONE,
        "ExitCode": OK,
        "Harmonized": made,
        "Outputs": [path.relative_to(out).as_posix() for path in plan.promised(image)],
        "Report": f"{image.person}.html",
    }


def _made(plan: Plan, image: T1w, description: str) -> dict[str, str]:
    """What the sidecar of a harmonized image says of how it was made and how good it is."""
    sidecar = json.loads(sidecar_of(plan.products(image).harmonized(description)).read_text(encoding="utf-8"))
    record = sidecar["Harmonization"]
    return {
        "InputSHA256": record["InputSHA256"],
        "ParametersHash": record["ParametersHash"],
        "Verdict": sidecar["QualityControl"]["verdict"],
    }
