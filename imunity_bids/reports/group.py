"""One table and one page for all participants: the quality measures, sortable, outliers marked."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from imunity_bids.bids.outputs import write_json, write_text
from imunity_bids.errors import NothingSelected
from imunity_bids.qc.measures import COLUMNS

TEMPLATE = Path(__file__).parents[1] / "data" / "group.html.j2"
FENCE = 1.5  # Tukey's: outside the quartiles by more than this many interquartile ranges


def write_group(output_dir: Path) -> pd.DataFrame:
    """Write `group.tsv`, `group.json` and `group.html`; returns the table.

    Raises
    ------
    NothingSelected
        No participant has quality measures yet.
    """
    paths = sorted(output_dir.glob("sub-*/**/*_scans.tsv"))
    if not paths:
        raise NothingSelected(f"no quality measures in {output_dir}; run the participant level first")
    parts = []
    for path in paths:
        part = pd.read_csv(path, sep="\t", na_values="n/a", dtype={"reason": str})
        part.insert(0, "report", path.name.removesuffix("_scans.tsv") + ".html")
        parts.append(part)
    table = pd.concat(parts, ignore_index=True)
    table["filename"] = table.filename.str.removeprefix("anat/")
    write_text(output_dir / "group.tsv", table.to_csv(sep="\t", index=False, na_rep="n/a"))
    described = {name: {"Description": text} for name, text in COLUMNS.items()}
    write_json(output_dir / "group.json", {"Description": "Quality measures of all participants", **described})
    write_text(output_dir / "group.html", _render(table))
    return table


def outliers(table: pd.DataFrame) -> pd.DataFrame:
    """True where a measure lies outside Tukey's fences, for four images and more."""
    numbers = table.select_dtypes("number")
    low, high = numbers.quantile(0.25), numbers.quantile(0.75)
    reach = FENCE * (high - low)
    marked = (numbers < low - reach) | (numbers > high + reach)
    return marked if len(table) >= 4 else marked & False


def _render(table: pd.DataFrame) -> str:
    import jinja2

    marked = outliers(table)
    rows = []
    for index, row in table.iterrows():
        cells = [
            {"value": row[name], "outlier": bool(marked.get(name, pd.Series(dtype=bool)).get(index, False))}
            for name in COLUMNS
        ]
        rows.append({"report": row.report, "filename": row.filename, "verdict": row.verdict, "cells": cells})
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        rows=rows, columns=COLUMNS, counts=table.verdict.value_counts().to_dict(), total=len(table)
    )
