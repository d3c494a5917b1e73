"""Crash files: what went wrong with an image, one JSON line for the app and the traceback for a person."""

from __future__ import annotations

import json
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imunity_bids.bids.inputs import T1w
from imunity_bids.bids.outputs import write_text
from imunity_bids.bids.scan import RAW
from imunity_bids.errors import DiskError, ImunityError
from imunity_bids.plan.plan import Plan
from imunity_bids.plan.requests import ReferenceRequest


@dataclass(frozen=True)
class Failure:
    """Why an image did not come out."""

    image: T1w
    code: int
    step: str
    message: str


def crash_file(plan: Plan, image: T1w) -> Path:
    """Where the failure of an image in this run is described."""
    of = "" if image.dataset == RAW else f"{image.dataset}-"
    return plan.settings.logs / f"crash-{plan.settings.run_id}-{of}{image.stem}.txt"


def reference_crash_file(plan: Plan, reference: ReferenceRequest) -> Path:
    """Where the failure of a reference's encoding is described."""
    return plan.settings.logs / f"crash-{plan.settings.run_id}-reference-{reference.label}.txt"


def person_crash_file(plan: Plan, subject: str) -> Path:
    """Where it is described why the scans of a person found no common space."""
    return plan.settings.logs / f"crash-{plan.settings.run_id}-sub-{subject}-longitudinal.txt"


def write_crash(path: Path, step: str, error: Exception) -> None:
    """First line: a JSON object with code, step and message; below it the traceback."""
    code = error.code if isinstance(error, ImunityError) else DiskError.code if isinstance(error, OSError) else 1
    message = str(error) if isinstance(error, ImunityError) else f"{type(error).__name__}: {error}"
    first = json.dumps({"code": code, "step": step, "message": message}, ensure_ascii=False)
    write_text(path, f"{first}\n\n{''.join(traceback.format_exception(error))}")  # whole or, on a full disk, not at all


def read_crash(path: Path) -> dict[str, Any]:
    """The first line of a crash file."""
    return json.loads(path.read_text(encoding="utf-8").partition("\n")[0])
