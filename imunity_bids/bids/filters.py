"""fMRIPrep's filter file: which images are taken, by their entities."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from imunity_bids.errors import InputMissing, Usage

log = logging.getLogger(__name__)

KIND = "t1w"  # what fMRIPrep calls our images in that file; it knows others


def read_filter(path: Path | None) -> dict[str, Any]:
    """Values by entity, as pybids takes them: `{"t1w": {"acquisition": "mprage", "run": [1, 2], "ceagent": null}}`.

    As in fMRIPrep, null is "the image has no such entity" and "*" "it has one"; "Query.NONE" and so on are taken, too.

    Raises
    ------
    InputMissing, Usage
        The file cannot be read; it is no JSON object of objects; a value is neither text, number, null nor a list.
    """
    if path is None:
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputMissing(f"--bids-filter-file {path}: {error.strerror}") from error
    except ValueError as error:
        raise Usage(f"--bids-filter-file {path} is not JSON: {error}") from error
    chosen = content.get(KIND, {}) if isinstance(content, dict) else None
    if not isinstance(chosen, dict):
        raise Usage(f'--bids-filter-file {path}: must be {{"{KIND}": {{"ENTITY": "VALUE"}}}}')
    if KIND not in content:
        log.warning('--bids-filter-file %s has no "%s": it filters nothing here', path, KIND)
    return {entity: _query(value) for entity, value in chosen.items()}


def _query(value: Any) -> Any:
    from bids.layout import Query

    if isinstance(value, dict):
        raise Usage(f"--bids-filter-file: {value} is no value of an entity")
    if isinstance(value, list):
        return [_query(item) for item in value]
    if value is None:
        return Query.NONE
    if value == "*":
        return Query.ANY
    name = value.removeprefix("Query.") if isinstance(value, str) else ""
    return Query[name] if name != value and name in Query.__members__ else value
