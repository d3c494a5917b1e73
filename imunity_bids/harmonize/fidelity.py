"""Did harmonization keep the brain? What is measured on every image, and when a person should look."""

from __future__ import annotations

import numpy as np

from imunity_bids.evaluation import similarity
from imunity_bids.harmonize.inference import intensity_quantiles
from imunity_bids.image.quality import Finding
from imunity_bids.models.bundle import Reference


def fidelity(
    before: np.ndarray, after: np.ndarray, uncertainty: np.ndarray, mask: np.ndarray, reference: Reference
) -> dict[str, float]:
    """Numbers for the report and the scans table; volumes white-striped, (X, Y, Z)."""
    target = reference.quantiles.numpy()
    return {
        "gradient_correlation": similarity.gradient_correlation(before, after, mask),
        "ssim_with_input": similarity.ssim(before, after, mask),
        "contrast_before": similarity.gray_white_contrast(before, mask),
        "contrast_after": similarity.gray_white_contrast(after, mask),
        "histogram_distance_before": similarity.histogram_distance(intensity_quantiles(before, mask).numpy(), target),
        "histogram_distance_after": similarity.histogram_distance(intensity_quantiles(after, mask).numpy(), target),
        "mean_uncertainty": float(uncertainty[mask].mean()),
    }


def judge(numbers: dict[str, float]) -> list[Finding]:
    """What in the numbers of one image a person should know. Limits: seen on unharmed scans, see docs/quality.md."""
    findings = []
    if numbers["gradient_correlation"] < 0.90:
        findings.append(Finding("check", f"edges changed (gradient correlation {numbers['gradient_correlation']:.3f})"))
    if numbers["histogram_distance_after"] > numbers["histogram_distance_before"] + 0.01:
        findings.append(Finding("check", "farther from the reference's intensities after than before"))
    if numbers["mean_uncertainty"] > 0.05:
        findings.append(Finding("check", f"the models are unsure (mean uncertainty {numbers['mean_uncertainty']:.3f})"))
    if numbers["template_correlation"] < 0.15 or numbers["template_dice"] < 0.80:
        findings.append(Finding("failed", f"registration failed (mask overlap {numbers['template_dice']:.2f})"))
    elif numbers["template_correlation"] < 0.3 or numbers["template_dice"] < 0.88:
        findings.append(Finding("check", f"registration is doubtful (mask overlap {numbers['template_dice']:.2f})"))
    if numbers["clipped"] > 0.02:
        findings.append(Finding("check", f"{numbers['clipped']:.1%} of the brain's voxels were cut at the top"))
    if numbers["contrast_before"] < 0.08:
        findings.append(Finding("check", "hardly any contrast between gray and white matter"))
    return findings
