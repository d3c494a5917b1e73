"""One page and four tables for all participants: what sites have in common, what tells them apart, who lies outside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from imunity_bids.bids.outputs import plain, write_json, write_text
from imunity_bids.metrics.tissue_classes import TISSUES
from imunity_bids.metrics.tissue_ratios import RATIOS
from imunity_bids.qc.features import AFTER, BEFORE, MATCHED
from imunity_bids.qc.measures import COLUMNS
from imunity_bids.reports import sites
from imunity_bids.reports.cohort import Cohort, read_cohort
from imunity_bids.reports.comparison import compare
from imunity_bids.reports.group_page import render
from imunity_bids.reports.sentences import TISSUE_NAMES
from imunity_bids.settings import Settings

METHODS = {BEFORE: "before", MATCHED: "after plain histogram matching", AFTER: "after harmonization"}
_RATIO_TEXTS = {"gray_white": "Level of gray matter", "csf_white": "Level of CSF"}
STORED = {
    **{
        f"{ratio}_{method}": f"{text} relative to white matter, well inside both, {when}"
        for ratio, text in _RATIO_TEXTS.items()
        for method, when in METHODS.items()
    },
    **{
        f"{tissue}_ml_{method}": f"Volume of {text} in template space in mL, {when}"
        for tissue, text in TISSUE_NAMES.items()
        for method, when in METHODS.items()
    },
}
ABOUT = {
    "report": "Report of the participant",
    "filename": "Harmonized image",
    "participant_id": "Participant",
    "site": "Site",
    "age": "Age in years",
    "sex": "M or F",
}


def write_group(settings: Settings) -> Cohort:
    """Write `group.tsv`, `group.json`, `sites.tsv`, `sites.json` and `group.html` into the output folder.

    Raises
    ------
    NothingSelected
        No participant has quality measures yet.
    """
    cohort, out = read_cohort(settings), settings.output_dir
    comparison = compare(cohort, settings.nprocs)
    by_site = sites.site_table(cohort.compared)
    _write_table(out / "group.tsv", _image_table(cohort), "All harmonized images", {**ABOUT, **COLUMNS, **STORED})
    _write_table(out / "sites.tsv", by_site, "All sites", sites.COLUMNS, {"Comparison": plain(comparison)})
    write_text(out / "group.html", render(cohort, by_site, comparison))
    return cohort


def _image_table(cohort: Cohort) -> pd.DataFrame:
    """The columns of `group.tsv`; what sites are compared by is empty for images that are not."""
    table = cohort.images.replace({"site": {"": "n/a"}, "sex": {"": "n/a"}})
    for method in METHODS:
        part = cohort.features[cohort.features.method == method].set_index("image")
        for ratio in RATIOS:
            table[f"{ratio}_{method}"] = part[ratio] if ratio in part else float("nan")
        for tissue in TISSUES:
            table[f"{tissue}_ml_{method}"] = part[tissue]
    return table.reindex(columns=[*ABOUT, *COLUMNS, *cohort.kept, *STORED])


def _write_table(
    path: Path, table: pd.DataFrame, text: str, columns: dict[str, str], more: dict[str, Any] | None = None
) -> None:
    """A table, and beside it the meaning of its columns."""
    write_text(path, table.to_csv(sep="\t", index=False, na_rep="n/a", float_format="%.6g"))
    described = {name: {"Description": columns.get(name, "Column of participants.tsv")} for name in table.columns}
    write_json(path.with_suffix(".json"), {"Description": text, **described, **(more or {})})
