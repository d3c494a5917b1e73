"""Calls in several processes."""

from __future__ import annotations

import pytest
from joblib import delayed

from imunity_bids.errors import DataUnusable
from imunity_bids.parallel import in_parallel


def fail(number: int) -> int:
    """One call of three that fails."""
    if number == 1:
        raise DataUnusable("the second one")
    return number


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_in_order_and_the_error_of_a_call_itself(jobs: int) -> None:
    """joblib's messages turned it into an AttributeError."""
    assert in_parallel([delayed(abs)(-number) for number in range(5)], jobs, "numbers") == [0, 1, 2, 3, 4]
    with pytest.raises(DataUnusable, match="the second one"):
        in_parallel([delayed(fail)(number) for number in range(3)], jobs, "numbers")
