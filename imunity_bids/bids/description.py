"""dataset_description.json: whose a folder is, before anything is written into it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

DESCRIPTION = "dataset_description.json"


def read_description(folder: Path) -> dict[str, Any]:
    """The folder's description; empty where there is none, or none that can be read."""
    try:
        content = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def is_other_dataset(folder: Path, name: str) -> bool:
    """True where a folder holds a description that is not that of the dataset `name`."""
    return (folder / DESCRIPTION).exists() and read_description(folder).get("Name") != name


def raw_dataset(folder: Path) -> Path:
    """The raw dataset that a derivative was made from, as its description links it; else the folder itself."""
    link = read_description(folder).get("DatasetLinks", {}).get("raw", "")
    return Path(unquote(urlparse(link).path)) if link else folder
