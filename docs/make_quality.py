"""Write docs/quality.md from the table of measures:  python docs/make_quality.py"""

from __future__ import annotations

from pathlib import Path

from imunity_bids.qc.measures import MEASURES

HEAD = """# Quality measures and verdicts

Every harmonized image has a verdict: **ok**, **check** (a person should look at the report) or **failed** (do not
use).
It is the worst of what the measures below say. They are columns of `*_scans.tsv`; this page is made from the same
table, `imunity_bids/qc/measures.py`.

| column | what | formula | better | check | failed | source |
|---|---|---|---|---|---|---|
"""
TAIL = """
Besides these, a scan with thick slices (2.5 mm or more, and twice the voxel's shortest side), a 2D scan
(`MRAcquisitionType`) and one with a contrast agent (`ContrastBolusIngredient`, else `ce-`) are marked `check`, and the
verdict says why.

Columns that say "MRIQC" have its names and formulas ([Esteban 2017](https://doi.org/10.1371/journal.pone.0184661)), but
are those of the bare brain in template space, in voxels well inside each tissue of the image before: compare them with
each other, not with MRIQC's. Reports show them folded away. What they are on real scans:
[scans.md](scans.md#what-the-measures-are-on-real-scans).

A child's brain below 900 mL is marked `check` on purpose: a person knows that it is a child, the app does not.
"""


def page() -> str:
    """The page as Markdown."""
    rows = [(f"`{m.name}`", m.text, m.formula, m.better, m.check or "", m.failed or "", m.source) for m in MEASURES]
    cells = [[str(cell).replace("|", "\\|") or "–" for cell in row] for row in rows]
    return HEAD + "".join("| " + " | ".join(row) + " |\n" for row in cells) + TAIL


if __name__ == "__main__":
    (Path(__file__).parent / "quality.md").write_text(page(), encoding="utf-8")
