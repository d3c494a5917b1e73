"""Traveling subjects as they are published: who was scanned on which scanner.

ON-Harmony (ds004712) names the scanner in the session (`ses-NOT1ACH001`, the digits counting visits), the traveling
subjects of SRPBS have a session per site, OASIS-3 has days as sessions and the scanner in the sidecars.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from imunity_bids.bids.scanners import scanners
from imunity_bids.errors import DataUnusable, Usage

SESSION, SIDECAR = "session", "sidecar"
VISIT = re.compile(r"(?<=\D)\d{3,}$")  # three digits and more after a name count visits; `A1` and `01` are names


def scanner_names(bids_dir: Path, stems: list[str], source: str = SESSION) -> dict[str, str]:
    """Name of the scanner by stem of a T1w image (`sub-X[_ses-Y]…`).

    Parameters
    ----------
    source
        "session": the label of the session without the number of the visit; "sidecar": manufacturer, model and field
        strength; or a column of `sub-X_sessions.tsv` or of `*_scans.tsv`.

    Raises
    ------
    Usage, DataUnusable
        No image has such a column; or an image has no scanner, or all have the same.
    """
    if source == SIDECAR:
        found = scanners(bids_dir, stems)
    elif source == SESSION:
        found = {stem: VISIT.sub("", _entities(stem).get("ses", "")) for stem in stems}
    else:
        found = {stem: _column(bids_dir, stem, source) for stem in stems}
        if not any(found.values()):
            raise Usage(f"--scanner-from {source}: no sessions.tsv or scans.tsv of {bids_dir} has such a column")
    other = f"say where else it stands (--scanner-from {SESSION}, {SIDECAR}, or a column of sessions.tsv or scans.tsv)"
    if nameless := sorted(stem for stem, name in found.items() if not name):
        raise DataUnusable(f"{len(nameless)} images have no scanner by {source}, {nameless[0]} for one; {other}")
    if len(set(found.values())) < 2:
        raise DataUnusable(f"by {source} all images are of one scanner, {next(iter(found.values()), '')}; {other}")
    return found


def _entities(stem: str) -> dict[str, str]:
    return dict(part.split("-", 1) for part in stem.split("_") if "-" in part)


def _column(bids_dir: Path, stem: str, column: str) -> str:
    """Of the row of the session, or of the scan; empty where there is none."""
    entities = _entities(stem)
    person = bids_dir / f"sub-{entities['sub']}"
    folder = person / f"ses-{entities['ses']}" if "ses" in entities else person
    tables = [*person.glob("*_sessions.tsv"), *folder.glob("*_scans.tsv")]
    for path in tables:
        table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
        if column not in table:
            continue
        if "session_id" in table:
            rows = table[table.session_id.str.removeprefix("ses-") == entities.get("ses")]
        else:
            rows = table[table.filename.str.contains(f"{stem}_", regex=False)]
        if len(rows):
            return rows[column].iloc[0]
    return ""
