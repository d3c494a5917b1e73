"""Which of the paper's orderings hold: each as a difference that has to be below zero, seed by seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from imunity_bids.evaluation.unlearning_methods import NORMAL, UNLEARNED

Row = dict[str, Any]
NEAR_CHANCE = 0.08  # of a probe
COST = 1.05  # an error that counts as no worse


@dataclass(frozen=True)
class Claim:
    """That something is smaller than something else in an experiment, given its rows by method."""

    experiment: str
    says: str
    excess: Callable[[Mapping[str, Row]], float]  # holds where it is at most 0


def error(row: Row) -> float:
    """Mean over scanners."""
    return float(np.mean(list(row["error"].values())))


def _beyond_chance(row: Row) -> float:
    return row["site"]["accuracy"] - row["site"]["chance"] - NEAR_CHANCE


def _less(method: str, other: str) -> Callable[[Mapping[str, Row]], float]:
    return lambda rows: error(rows[method]) - error(rows[other])


ALL, OVERLAP, BALANCED = "unlearned on all", "unlearned on the overlap", "unlearned on a balanced subset"
AT_A, AT_B, AT_BOTH = "unlearned at A", "unlearned at B", "unlearned at A+B"
CLAIMS = (
    Claim("a", "scanner within 0.08 of chance", lambda rows: _beyond_chance(rows[UNLEARNED])),
    Claim("a", "error at most 5 % above normal", lambda rows: error(rows[UNLEARNED]) - COST * error(rows[NORMAL])),
    Claim("c", "unlearned on all better than normal", _less(ALL, NORMAL)),
    Claim("c", "on the overlap better than on all", _less(OVERLAP, ALL)),
    Claim("e", "balanced better than on all", _less(BALANCED, ALL)),
    Claim("g", "A or A+B better than B",
          lambda rows: min(error(rows[AT_A]), error(rows[AT_BOTH])) - error(rows[AT_B])),
    Claim("g-0", "Dice of the unlabelled scanner above normal",
          lambda rows: list(rows[AT_A]["error"].values())[-1] - list(rows[NORMAL]["error"].values())[-1]),
)  # fmt: skip


def orderings(rows: Sequence[Row]) -> list[Row]:
    """A line for each claim that there are rows for: in how many seeds it holds, and by how much, mean and reach."""
    lines = []
    for claim in CLAIMS:
        by_seed: dict[int, dict[str, Row]] = {}
        for row in (row for row in rows if row["experiment"] == claim.experiment):
            by_seed.setdefault(row["seed"], {})[row["method"]] = row
        if not by_seed:
            continue
        excess = [claim.excess(methods) for methods in by_seed.values()]
        lines.append({
            "experiment": claim.experiment, "claim": claim.says,
            "holds": sum(value <= 0 for value in excess), "seeds": len(excess),
            "margin": -float(np.mean(excess)), "least": -max(excess), "most": -min(excess),
        })  # fmt: skip
    return lines
