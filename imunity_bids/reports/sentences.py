"""What the numbers of the comparison mean, in plain sentences that claim no more than they show."""

from __future__ import annotations

import math
from typing import Any

from imunity_bids.qc.features import AFTER, BEFORE, MATCHED

RATIO_NAMES = {"gray_white": "gray / white matter", "csf_white": "CSF / white matter"}
TISSUE_NAMES = {"csf": "CSF", "gray": "gray matter", "white": "white matter"}
PERMUTED = "permuted"  # how the control's column is marked
MOST_PAIRS = 5  # that are named


def digits(value: float) -> str:
    """Three significant digits, no more than a whole number from 100 on; a dash for what is not finite."""
    if not math.isfinite(value):
        return "–"
    return f"{value:,.0f}".replace(",", " ") if abs(value) >= 100 else f"{value:.3g}"


def headlines(comparison: dict[str, Any]) -> list[str]:
    """One sentence per tissue ratio, one on the probes, one on what goes with tissue volumes."""
    said = [_contrast_sentence(ratio, methods) for ratio, methods in comparison["contrast"].items()]
    said += _probe_sentences({row["name"]: row for row in comparison["probes"] if "accuracy" in row})
    return said + _biology_sentences(comparison["biology"])


def _contrast_sentence(ratio: str, methods: dict[str, Any]) -> str:
    before, after, matched = (methods[name] for name in (BEFORE, AFTER, MATCHED))
    low, high = after["relative_interval"]
    change = "closer together" if high < 1 else "farther apart" if low > 1 else "neither closer nor farther, surely"
    least, most = after["between_interval"]
    by_matching = matched["between"]
    versus = "closer than" if by_matching > most else "farther than" if by_matching < least else "about as far as"
    return (
        f"{RATIO_NAMES[ratio]}: sites lie {digits(before['between'])} apart before and {digits(after['between'])} "
        f"after ({change}), {versus} after plain histogram matching ({digits(by_matching)}); persons of one "
        f"site lie {digits(after['within'])} apart."
    )


def _probe_sentences(probes: dict[str, dict[str, Any]]) -> list[str]:
    if BEFORE not in probes or AFTER not in probes:
        return []
    before, after = probes[BEFORE], probes[AFTER]
    said = (
        f"A fresh classifier tells the site of {before['accuracy']:.0%} of the images before and "
        f"{after['accuracy']:.0%} after ({after['low']:.0%} to {after['high']:.0%}); guessing gives "
        f"{after['chance']:.0%}."
    )
    floors = [row for row in probes.values() if row["role"] == "floor"]
    if floors:
        floor = max(floors, key=lambda row: row["accuracy"])
        said += (
            f" From {floor['name']} alone, which harmonization leaves untouched, it tells "
            f"{floor['accuracy']:.0%}: where the persons or masks of sites differ, do not expect guessing after."
        )
    return [said]


def _biology_sentences(rows: list[dict[str, Any]]) -> list[str]:
    """Associations that are there before or after; that there is none, where none is."""
    if not rows:
        return []
    found = [row for row in rows if PERMUTED not in row["column"] and change_of(row["methods"]) != "none"]
    if not found:
        columns = ", ".join(dict.fromkeys(row["column"] for row in rows if PERMUTED not in row["column"]))
        return [f"Whether biology is kept cannot be seen here: volumes of tissues go with none of {columns}."]
    parts = []
    for row in found:
        before, after, matched = (f"{row['methods'][name]['r']:.2f}" for name in (BEFORE, AFTER, MATCHED))
        parts.append(
            f"{row['column']} with {TISSUE_NAMES[row['tissue']]} {before} before, {after} after "
            f"({change_of(row['methods'])}), {matched} after plain histogram matching"
        )
    return [f"What goes with the volume of a tissue (rank correlation within sites): {'; '.join(parts)}."]


def warnings(comparison: dict[str, Any]) -> list[str]:
    """Where site and a covariate cannot be told apart."""
    said = []
    for covariate in dict.fromkeys(pair["covariate"] for pair in comparison["confounded"]):
        pairs = [" and ".join(p["sites"]) for p in comparison["confounded"] if p["covariate"] == covariate]
        more = f", and {len(pairs) - MOST_PAIRS} more pairs" if len(pairs) > MOST_PAIRS else ""
        said.append(
            f"{covariate.capitalize()} hardly overlaps between {'; '.join(pairs[:MOST_PAIRS])}{more}: a difference "
            f"between these sites may be one of {covariate}, and nothing on this page can tell which."
        )
    return said


def change_of(methods: dict[str, dict[str, float]]) -> str:
    """What became of an association, by 95 % intervals: kept, reversed, none, lost, new, or unclear.

    Where the interval of one side holds 0 and that of the other does not, the two may still be the same: lost or new is
    said only if the one's estimate lies outside the other's interval.
    """
    before, after = methods[BEFORE], methods[AFTER]
    signs = _sign(before), _sign(after)
    if not any(signs):
        return "none"
    if all(signs):
        return "kept" if signs[0] == signs[1] else "reversed"
    there, gone, word = (before, after, "lost") if signs[0] else (after, before, "new")
    return "unclear" if gone["low"] <= there["r"] <= gone["high"] else word


def _sign(association: dict[str, float]) -> int:
    return 1 if association["low"] > 0 else -1 if association["high"] < 0 else 0
