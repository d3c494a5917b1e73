from __future__ import annotations

import math

import pytest

from imunity_bids.qc.measures import COLUMNS, MEASURES, Limits, Measure, findings
from imunity_bids.qc.verdict import Finding, verdict

LIMITED = [measure for measure in MEASURES if measure.check or measure.failed]
GOOD = {
    "brain_volume_ml": 1450, "mask_border_share": 0.0, "mask_stray_share": 0.0, "mask_unsure_share": 0.05,
    "template_correlation": 0.5, "template_dice": 0.95, "white_core_level": 0.98, "clipped": 0.001,
    "contrast_before": 0.3, "gradient_correlation": 0.99, "histogram_distance_change": -0.03, "mean_uncertainty": 0.01,
}  # fmt: skip


def outside(limits: Limits) -> list[float]:
    """A little beyond each end."""
    return [bound + step for bound, step in ((limits.low, -1e-3), (limits.high, 1e-3)) if bound is not None]


def test_a_good_scan_raises_no_finding() -> None:
    assert {measure.name for measure in LIMITED} == set(GOOD)
    assert findings(GOOD) == []


@pytest.mark.parametrize("measure", LIMITED, ids=lambda measure: measure.name)
def test_every_limit_is_kept(measure: Measure) -> None:
    """Beyond the first limit a person looks, beyond the second the image is not to be used; values are said."""
    for limits, expected in ((measure.check, "check"), (measure.failed, "failed")):
        for value in outside(limits) if limits else []:
            (found,) = findings({**GOOD, measure.name: value})
            assert found.verdict == expected
            assert found.reason == measure.finding.format(value=value)
    if measure.check and measure.failed:  # the second lies beyond the first
        assert all(not measure.check.hold(value) for value in outside(measure.failed))


def test_what_an_image_does_not_have_is_passed_over() -> None:
    assert findings({}) == []
    assert findings({"clipped": math.nan}) == []


def test_white_matter_cut_off_is_a_failure() -> None:
    """ds002748 sub-31 with 32 % of its brain cut at 1 was only to be looked at."""
    assert verdict(findings({**GOOD, "clipped": 0.32})).verdict == "failed"
    assert verdict(findings({**GOOD, "clipped": 0.049})).verdict == "check"


def test_the_worst_verdict_counts_and_all_reasons_of_its_rank() -> None:
    found = verdict([Finding("check", "a"), Finding("failed", "b"), Finding("failed", "c")])
    assert found == Finding("failed", "b; c")
    assert verdict([]) == Finding("ok", "")


def test_every_measure_has_a_meaning_and_every_limit_a_sentence() -> None:
    assert len({measure.name for measure in MEASURES}) == len(MEASURES)
    assert all(measure.text for measure in MEASURES)
    assert all(measure.finding and measure.better for measure in LIMITED)
    assert list(COLUMNS)[:2] == ["verdict", "reason"]


def test_limits_in_words() -> None:
    assert str(Limits(low=1, high=2)) == "below 1 or above 2"
    assert str(Limits(high=0.25)) == "above 0.25"
