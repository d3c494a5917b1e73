"""Findings about an image, and the verdict they add up to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

Verdict = Literal["ok", "check", "failed"]
_ORDER: tuple[Verdict, ...] = ("ok", "check", "failed")


class Finding(NamedTuple):
    """Something a person should know about an image."""

    verdict: Verdict
    reason: str


def verdict(findings: Iterable[Finding]) -> Finding:
    """The worst verdict, with all reasons of that rank in words."""
    findings = list(findings)
    worst = max((f.verdict for f in findings), key=_ORDER.index, default="ok")
    reasons = [f.reason for f in findings if f.verdict == worst]
    return Finding(worst, "; ".join(reasons) if worst != "ok" else "")
