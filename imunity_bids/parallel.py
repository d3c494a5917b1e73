"""Calls in several processes, with a progress bar."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from joblib import Parallel
from tqdm import tqdm


def in_parallel(calls: Iterable[Any], jobs: int, what: str) -> list[Any]:
    """Results of joblib's `delayed` calls, in order; `what` they are stands beside the bar.

    joblib's own messages would hide the error of a call that fails behind one of theirs (1.6, one process).
    """
    calls = list(calls)
    results = Parallel(n_jobs=jobs, return_as="generator")(calls)
    return list(tqdm(results, total=len(calls), desc=what, mininterval=5))
