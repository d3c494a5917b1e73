"""One table of all quality measures: what each is, which way is better, and when a person should look.

`*_scans.json`, the reports and docs/quality.md are made from it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from imunity_bids.qc.verdict import Finding, Verdict

SEEN = "seen on unharmed scans of 13 scanners"


@dataclass(frozen=True)
class Limits:
    """The range that raises no finding; None: open on that side."""

    low: float | None = None
    high: float | None = None

    def hold(self, value: float) -> bool:
        """True where the value lies inside."""
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def __str__(self) -> str:
        sides = (("below", self.low), ("above", self.high))
        return " or ".join(f"{side} {bound:g}" for side, bound in sides if bound is not None)


@dataclass(frozen=True)
class Measure:
    """A number that every image has."""

    name: str  # column of `*_scans.tsv`
    text: str
    formula: str = ""
    better: Literal["higher", "lower", "inside", ""] = ""
    check: Limits | None = None  # outside: a person should look
    failed: Limits | None = None  # outside: not to be used
    finding: str = ""  # the sentence for a value outside; {value} is filled in
    source: str = ""  # of formula and limits
    folded: bool = False  # reports show it on demand only


def _of_the_image(name: str, text: str, formula: str, better: str, source: str) -> tuple[Measure, Measure]:
    """A measure of `metrics.image_quality`, of the image before and after harmonization."""
    before = Measure(f"{name}_before", text, formula, better, source=source, folded=True)
    return before, Measure(f"{name}_after", "The same after harmonization", better=better, folded=True)


def _of_tissue(name: str, tissue: str) -> tuple[Measure, Measure]:
    text, formula = f"Signal-to-noise ratio inside {tissue}, before harmonization", "median / (σ √(n / (n − 1)))"
    return _of_the_image(f"snr_{name}", text, formula, "higher", "MRIQC; Magnotta 2006")


def _of_axis(axis: str, direction: str) -> tuple[Measure, Measure]:
    text = f"Smoothness {direction}, full width at half maximum in mm, before harmonization; anatomy counts as well"
    formula = "√(−2 ln 2 / ln(1 − σ²(differences of neighbours) / 2 σ²)) × 1 mm, in the mask"
    return _of_the_image(f"fwhm_{axis}", text, formula, "lower", "MRIQC, AFNI's 3dFWHMx; Forman 1995")


IMAGE_QUALITY = (
    *_of_the_image(
        "cjv",
        "Coefficient of joint variation of white and gray matter, in voxels well inside each, before harmonization",
        "(σ_WM + σ_GM) / |μ_WM − μ_GM|, medians and median absolute deviations",
        "lower",
        "MRIQC; Ganzetti 2016",
    ),
    *_of_the_image(
        "cnr",
        "Contrast-to-noise ratio of white and gray matter, before harmonization",
        "|μ_WM − μ_GM| / √(σ²_WM + σ²_GM); MRIQC adds σ² of air, which a bare brain lacks",
        "higher",
        "MRIQC; Magnotta 2006",
    ),
    *_of_tissue("csf", "CSF (the ventricles)"),
    *_of_tissue("gm", "gray matter (the cortex)"),
    *_of_tissue("wm", "white matter"),
    *_of_the_image(
        "wm_cov",
        "Coefficient of variation of white matter, by what its outliers do not move, before harmonization",
        "1.4826 × median absolute deviation / median",
        "lower",
        "Vovk 2007",
    ),
    *_of_the_image(
        "wm2max",
        "Level of white matter relative to the brightest of the brain, before harmonization",
        "median / 99.95th percentile of the mask",
        "",
        "MRIQC: 0.6 to 0.8 is usual, of a whole head",
    ),
    *_of_the_image(
        "efc",
        "Entropy focus criterion of the brain, before harmonization: blurring and ghosts raise it",
        "Σ x/e ln(x/e) / (√n ln(1/√n)), e = √Σx²",
        "lower",
        "MRIQC; Atkinson 1997",
    ),
    *_of_axis("x", "from left to right"),
    *_of_axis("y", "from back to front"),
    *_of_axis("z", "from bottom to top"),
    Measure(
        "inu_range",
        "Range of the bias field that was taken out, inside the brain, its mean being about 1",
        "95th − 5th percentile",
        "lower",
        source="MRIQC",
        folded=True,
    ),
    Measure("inu_med", "Median of that field", source="MRIQC", folded=True),
)
MEASURES = (
    Measure(
        "brain_volume_ml",
        "Volume of the brain mask in mL, inner and outer CSF included",
        "voxels of the mask × volume of a voxel",
        "inside",
        Limits(900, 2100),
        Limits(300, 2600),
        "brain mask of {value:.0f} mL (an adult has 900 to 2100)",
        "intracranial volume: newborns 0.4 L, the largest adults 2.1 L",
    ),
    Measure(
        "mask_border_share",
        "Share of the mask's surface that lies on the edge of the field of view",
        "surface voxels in the outermost planes / surface voxels",
        "lower",
        Limits(high=0.02),
        Limits(high=0.25),
        "{value:.0%} of the mask's surface lies on the image border",
        SEEN,
    ),
    Measure(
        "mask_stray_share",
        "Volume outside the mask's largest piece, which was dropped, relative to the mask",
        "voxels of other pieces / voxels of the mask",
        "lower",
        Limits(high=0.02),
        Limits(high=0.15),
        "pieces beside the mask ({value:.0%} of it) were dropped",
        SEEN,
    ),
    Measure(
        "mask_unsure_share",
        "Volume where the network was unsure, relative to the mask",
        "voxels with a probability of 0.2 to 0.8 / voxels of the mask",
        "lower",
        Limits(high=0.35),
        None,
        "the network was unsure of {value:.0%} of the mask's volume",
        SEEN,
    ),
    Measure(
        "template_correlation",
        "Correlation with the template inside both masks, after registration",
        "Pearson's r of intensities",
        "higher",
        Limits(low=0.3),
        Limits(low=0.15),
        "registration: correlation with the template only {value:.2f}",
        SEEN,
    ),
    Measure(
        "template_dice",
        "Overlap (Dice) with the template's mask after registration",
        "2 |A ∩ B| / (|A| + |B|)",
        "higher",
        Limits(low=0.88),
        Limits(low=0.80),
        "registration: overlap with the template's mask only {value:.2f}",
        "Dice 1945; limits " + SEEN,
    ),
    Measure(
        "white_matter_peak",
        "White-matter peak before scaling, in the unit of the raw image",
        source="white stripe, Shinohara 2014",
    ),
    Measure("white_matter_width", "Full width at half maximum of that peak", better="lower"),
    Measure(
        "white_core_level",
        "Median intensity where the template has white matter, relative to the histogram's last peak",
        "median in the template's white core / last peak of the histogram of the brain",
        "inside",
        Limits(0.88, 1.06),
        finding="the template's white matter lies at {value:.2f} of the histogram's last peak: one of them is wrong",
        source="0.96 to 1.01 on unharmed scans of 3 scanners",
    ),
    Measure(
        "clipped",
        "Share of the brain's voxels that were cut at 1",
        "voxels above 1 with white matter at 0.7 / voxels of the mask",
        "lower",
        Limits(high=0.02),
        Limits(high=0.05),
        "{value:.1%} of the brain's voxels were cut at the top",
        SEEN + "; white matter taken for something else cuts 10 % and more",
    ),
    Measure(
        "contrast_before",
        "2 (white - gray) / (white + gray) before harmonization",
        "means of the two brighter of three Otsu classes",
        "higher",
        Limits(low=0.08),
        None,
        "hardly any contrast between gray and white matter ({value:.3f})",
        SEEN,
    ),
    Measure("contrast_after", "The same after harmonization"),
    Measure(
        "curve_change",
        "Mean absolute change by the curves, before denoising (empty for models that paint)",
        "mean over the mask of |after − before|",
    ),
    Measure(
        "gradient_correlation",
        "Correlation of image gradients before and after harmonization: edges kept",
        "Pearson's r of all gradient components inside the mask",
        "higher",
        Limits(low=0.80),
        None,
        "edges changed (gradient correlation {value:.3f})",
        "0.92 and more on scans of 2 scanners, 0.845 on invented heads of low contrast that came out right",
    ),
    Measure(
        "ssim_with_input",
        "SSIM between the images before and after harmonization",
        "3D, Gaussian σ = 1.5, data range 1, mean over the mask",
        source="Wang 2004",
    ),
    Measure(
        "noise_reference",
        "Standard deviation of the noise in white matter of the reference, white matter being at 0.7",
        "1.4826 × median absolute deviation of what a Gaussian of σ = 1.5 voxels leaves, relative to white noise",
        source="Donoho 1994 for the estimator",
    ),
    Measure("noise_before", "The same of the harmonized image before its noise was matched", better="lower"),
    Measure("noise_after", "The same after that", better="lower"),
    Measure(
        "histogram_distance_before",
        "Wasserstein distance to the intensities of the reference before harmonization",
        "mean absolute difference of 101 quantiles",
        "lower",
    ),
    Measure("histogram_distance_after", "The same after harmonization", better="lower"),
    Measure(
        "histogram_distance_change",
        "By how much that distance grew",
        "after − before",
        "lower",
        Limits(high=0.01),
        None,
        "farther from the reference's intensities after than before (by {value:.3f})",
    ),
    Measure(
        "mean_uncertainty",
        "Mean uncertainty inside the brain",
        "mean over the mask of the expected absolute error",
        "lower",
        Limits(high=0.05),
        None,
        "the models are unsure (mean uncertainty {value:.3f})",
        SEEN,
    ),
    *IMAGE_QUALITY,
)
COLUMNS = {
    "verdict": "ok, check (a person should look) or failed",
    "reason": "Why the verdict is not ok",
    **{measure.name: measure.text for measure in MEASURES},
}


def findings(numbers: Mapping[str, float]) -> list[Finding]:
    """What in the numbers of one image a person should know; measures that it does not have are passed over."""
    raised = []
    for measure in MEASURES:
        value = numbers.get(measure.name)
        if value is None or math.isnan(value):
            continue
        verdict: Verdict | None = None
        if measure.failed is not None and not measure.failed.hold(value):
            verdict = "failed"
        elif measure.check is not None and not measure.check.hold(value):
            verdict = "check"
        if verdict is not None:
            raised.append(Finding(verdict, measure.finding.format(value=value)))
    return raised
