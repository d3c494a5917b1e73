"""Options that `imunity` and `imunity-harmonize` share: what is done to one image, and what it is done with."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from imunity_bids.errors import Usage
from imunity_bids.settings import DEFAULT_TEMPLATE


def add_models(group: argparse._ArgumentGroup) -> None:
    """Bundle, and how it is used."""
    group.add_argument(
        "--reference-slices", type=int, default=9, metavar="N", help="slices of each axis that give the contrast"
    )
    group.add_argument(
        "--noise", choices=("match", "keep"), default="match",
        help="match: what comes out noisier than the reference is denoised to its level",
    )  # fmt: skip
    group.add_argument(
        "--target-fwhm", default="none", metavar="{none,reference,MM}",
        help="smooth what comes out sharper than the reference, or than MM (full width at half maximum)",
    )  # fmt: skip
    group.add_argument("--model", default="imunity", help="bundle by name, or its folder")


def add_preprocessing(group: argparse._ArgumentGroup) -> None:
    """From the scan to the white-striped brain in template space."""
    group.add_argument(
        "--denoise", choices=("none", "nlm"), default="none",
        help="nlm: non-local means of the whole scan, for Rician noise, before all else",
    )  # fmt: skip
    methods = ("auto", "network", "ants", "synthstrip", "none")
    group.add_argument(
        "--skull-strip", choices=methods, default="auto", help="auto: network, unless the scan is already stripped"
    )
    group.add_argument("--brain-model", type=Path, metavar="DIR", help="brain extraction model of your own")
    group.add_argument(
        "--brain-border", type=float, default=0.0, metavar="MM", help="shift of the mask's edge, negative: tighter"
    )
    group.add_argument("--synthstrip-model", type=Path, metavar="FILE", help="SynthStrip's weights")
    group.add_argument("--registration", choices=("affine", "rigid"), default="affine", help="to the template")
    group.add_argument(
        "--bias-correction", choices=("white-matter", "plain", "none"), default="white-matter",
        help="white-matter: a smooth field through white matter; plain: N4",
    )  # fmt: skip
    group.add_argument(
        "--template", default=DEFAULT_TEMPLATE, metavar="NAME",
        help="TemplateFlow name, NAME:cohort-N, or MNI152NLin2009aSym, which is built in",
    )  # fmt: skip


def add_compute(group: argparse._ArgumentGroup) -> None:
    """Where the models run."""
    group.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N, for the models")
    group.add_argument("--batch-size", type=int, metavar="N", help="slices at once (default: 16, on a GPU 64)")
    group.add_argument("--precision", choices=("float32", "float16", "bfloat16"), default="float32", help="on a GPU")


def check_values(options: argparse.Namespace) -> None:
    """Raise Usage where a number is not above 0, or a device or a smoothness is none."""
    for name in ("reference_slices", "batch_size", "nprocs", "omp_nthreads", "mem_gb"):
        value = getattr(options, name, None)
        if value is not None and value <= 0:
            raise Usage(f"--{name.replace('_', '-')} {value}: must be above 0")
    if options.target_fwhm not in ("none", "reference") and not _is_positive(options.target_fwhm):
        raise Usage(f"--target-fwhm {options.target_fwhm}: none, reference, or a number of mm above 0")
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", options.device):
        raise Usage(f"--device {options.device}: auto, cpu, cuda or cuda:N")


def _is_positive(text: str) -> bool:
    """True for a finite number above 0."""
    try:
        return 0 < float(text) < float("inf")
    except ValueError:
        return False
