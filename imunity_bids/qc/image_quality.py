"""How good the image is, before and after harmonization."""

from __future__ import annotations

import math

from imunity_bids.metrics import image_quality as measured
from imunity_bids.qc.brain import Brain

SPACING_MM = (1.0, 1.0, 1.0)  # of the template's grid


def image_quality(brain: Brain | None) -> dict[str, float]:
    """MRIQC's measures by the names of the quality measures (`cjv_before`, `cjv_after`, …); no value, no entry.

    Both images are measured in the tissues of the one before, so that moving a border gains nothing, without lesions.
    """
    if brain is None:
        return {}
    inside = {tissue: where & brain.seen for tissue, where in brain.inside.items()}
    numbers = {
        f"{name}_{when}": value
        for when, image in (("before", brain.before), ("after", brain.after))
        for name, value in measured.image_quality(image, brain.seen, inside, SPACING_MM).items()
    }
    return {name: value for name, value in numbers.items() if math.isfinite(value)}
