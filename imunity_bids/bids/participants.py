"""participants.tsv and sessions.tsv of a dataset, or of the raw dataset that a derivative was made from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from imunity_bids.bids.description import raw_dataset

MISSING = ("", "n/a", "nan", "none", "unknown")
SEXES = {"m": "M", "male": "M", "f": "F", "female": "F"}


def read_participants(folder: Path) -> dict[str, dict[str, str]]:
    """Rows by `participant_id`: of the folder's own table, or of that of the raw dataset which its description names.

    All values are text, as they stand there; empty where there is no table, or none of participants.
    """
    path = folder / "participants.tsv"
    if not path.is_file():
        path = raw_dataset(folder) / "participants.tsv"
    return _rows(path, "participant_id")


def read_sessions(bids_dir: Path, subject: str) -> dict[str, dict[str, str]]:
    """Rows of a person's sessions.tsv by `session_id` (`ses-X`); `subject` is `sub-X`. Empty where there is none."""
    return _rows(bids_dir / subject / f"{subject}_sessions.tsv", "session_id")


def known(text: str) -> str:
    """What a cell says; empty where it says that nothing is known."""
    return "" if text.strip().lower() in MISSING else text.strip()


def _rows(path: Path, key: str) -> dict[str, dict[str, str]]:
    if not path.is_file():
        return {}
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, encoding="utf-8-sig")
    return {row[key]: row for row in table.to_dict("records")} if key in table else {}


def age_of(row: dict[str, str]) -> float:
    """In years; NaN where it is not known. BIDS allows `89+`."""
    text = _column(row, "age").removesuffix("+")
    return float(pd.to_numeric(text, errors="coerce")) if text else np.nan


def sex_of(row: dict[str, str]) -> str:
    """M, F, or empty."""
    return SEXES.get((_column(row, "sex") or _column(row, "gender")).lower(), "")


def _column(row: dict[str, str], name: str) -> str:
    """Value of a column, however its name is capitalised."""
    return next((known(value) for key, value in row.items() if key.lower() == name), "")
