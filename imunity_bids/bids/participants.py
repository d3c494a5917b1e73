"""participants.tsv of a dataset, or of the raw dataset that a derivative was made from."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlparse

import pandas as pd

from imunity_bids.bids.description import read_description


def read_participants(folder: Path) -> dict[str, dict[str, str]]:
    """Rows by `participant_id`: of the folder's own table, or of that of the raw dataset which its description names.

    All values are text, as they stand there; empty where there is no table, or none of participants.
    """
    path = folder / "participants.tsv"
    if not path.is_file():
        raw = read_description(folder).get("DatasetLinks", {}).get("raw", "")
        path = Path(unquote(urlparse(raw).path)) / "participants.tsv"
    if not path.is_file():
        return {}
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, encoding="utf-8-sig")
    if "participant_id" not in table:
        return {}
    return {row["participant_id"]: row for row in table.to_dict("records")}
