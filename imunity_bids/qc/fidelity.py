"""Did harmonization keep the brain? What is measured on every image."""

from __future__ import annotations

import numpy as np

from imunity_bids.harmonize.inference import Harmonized, intensity_quantiles
from imunity_bids.metrics import similarity
from imunity_bids.models.bundle import Reference


def fidelity(
    before: np.ndarray,
    harmonized: Harmonized,
    mask: np.ndarray,
    reference: Reference,
    seen: np.ndarray | None = None,
) -> dict[str, float]:
    """Numbers for the report and the scans table; `before` is white-striped, (X, Y, Z).

    What is compared with the reference, or is a contrast of tissues, is measured in `seen`, the mask without lesions.
    """
    seen = mask if seen is None else seen
    after = harmonized.image
    target = reference.quantiles.numpy()
    distances = [
        similarity.histogram_distance(intensity_quantiles(volume, seen).numpy(), target) for volume in (before, after)
    ]
    change = harmonized.curve_change
    return {
        **({} if change is None else {"curve_change": change}),
        "gradient_correlation": similarity.gradient_correlation(before, after, mask),
        "ssim_with_input": similarity.ssim(before, after, mask),
        "contrast_before": similarity.gray_white_contrast(before, seen),
        "contrast_after": similarity.gray_white_contrast(after, seen),
        "histogram_distance_before": distances[0],
        "histogram_distance_after": distances[1],
        "histogram_distance_change": distances[1] - distances[0],
        "mean_uncertainty": float(harmonized.uncertainty[mask].mean()),
    }
