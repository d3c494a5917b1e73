"""Steps that write, with all that they are told."""

from __future__ import annotations

from imunity_bids.bids.products import Products
from imunity_bids.interfaces import derivatives


def common(files: dict[str, str], products: Products) -> dict[str, str]:
    return {
        "source": files["raw"], "bids_dir": str(products.source.bids_dir), "output_dir": str(products.out),
        "template": "tiny",
    }  # fmt: skip


STRIPE = {
    "peak": 1.0, "width": 0.1, "scale": 0.7, "zero": 0.0, "from_template": False, "clipped": 0.001,
    "core_level": 0.99, "agrees": True,
}  # fmt: skip


def write_preprocessed(files: dict[str, str], products: Products, *descriptions: str) -> derivatives.WritePreprocessed:
    return derivatives.WritePreprocessed(
        **common(files, products), native_t1w=files["image"], native_mask=files["mask"], template_mask=files["mask"],
        template_seen=files["mask"], template_t1w=files["image"], forward=files["transform"],
        backward=files["transform"],
        brain={"method": "network", "stripped": False}, bias={"method": "N4"}, stripe=STRIPE,
        descriptions=list(descriptions),
    )  # fmt: skip


def write_harmonized(files: dict[str, str], products: Products, agent: str = "") -> derivatives.WriteHarmonized:
    fidelity = {
        "gradient_correlation": 0.99, "ssim_with_input": 0.98, "contrast_before": 0.3, "contrast_after": 0.3,
        "histogram_distance_before": 0.03, "histogram_distance_after": 0.01, "histogram_distance_change": -0.02,
        "mean_uncertainty": 0.02, "curve_change": 0.04, "noise_reference": 0.01,
        "noise_before": 0.02, "noise_after": 0.011,
    }  # fmt: skip
    compute = {"device": "cuda", "precision": "bfloat16+float32", "fallbacks": ["out of GPU memory: ran on the CPU"]}
    brain = {"brain_volume_ml": 1400.0, "mask_border_share": 0.0, "mask_stray_share": 0.0, "mask_unsure_share": 0.1}
    return derivatives.WriteHarmonized(
        **common(files, products), template_mask=files["mask"], template_seen=files["mask"],
        template_t1w=files["image"], harmonized=files["image"], uncertainty=files["uncertainty"],
        scan={"Suffix": "T1w", "AcquisitionType": "3D", "ContrastAgent": agent},
        description="harmonized", conform={"fixes": [], "voxel_mm": [1.0, 1.0, 1.0]},
        bias={"method": "N4", "measures": {"inu_range": 0.2, "inu_med": 1.0}},
        brain={"method": "network", "measures": brain, "stripped": False},
        registration={"template_correlation": 0.9, "template_dice": 0.99}, stripe=STRIPE,
        info={
            "fidelity": fidelity, "compute": compute, "quantiles": [0.0, 1.0], "smoothing": {},
            "reference": {"label": "A", "type": "site", "sha256": "aa"},
        },
        provenance={
            "Bundle": {"Architecture": {"kind": "curves"}}, "Seed": 1,
            "ReferenceScans": [{"Scan": "bids:raw:sub-2/anat/sub-2_T1w.nii.gz", "SHA256": "bb"}],
        },
        parameters={"image": "cc"}, waited_for=[],
    )  # fmt: skip
