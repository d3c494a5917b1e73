"""JSON that goes beside every image, and the files that make the output a derivative dataset."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from imunity_bids import version
from imunity_bids.bids.description import read_description
from imunity_bids.bids.outputs import write_json, write_text
from imunity_bids.bids.tables import FEATURES
from imunity_bids.errors import Usage

APP = "ImUnity-BIDS"
BIDS_VERSION = "1.11.0"
DESCRIPTIONS = {
    "brain": "Brain mask: brain, inner CSF and a rim of 2 mm",
    "preproc": "Bias-corrected, on the scan's own voxels with axes in RAS order; in template space also stripped and "
    "white-striped, white matter at 0.7",
    "biasfield": "Bias field that was taken out, on the scan's own voxels: the scan is this times desc-preproc",
    "harmonized": "Harmonized to the reference by ImUnity, median of three axes, white matter at about 0.7",
    "uncertainty": "Absolute error to expect, in the unit of the harmonized image, as the three axes' models name it; "
    "by the paper's models the standard deviation of the three axes",
}
LABELS = {"lesion": "Lesions: kept out of all estimates, harmonized like the rest"}  # of masks without `desc-`
BIDSIGNORE = f"*.html\n*_xfm.*\n*_{FEATURES}.json\ngroup.*\nsites.*\n"


def generated_by() -> list[dict[str, Any]]:
    """Who made the derivatives; the container where there is one."""
    entry: dict[str, Any] = {"Name": APP, "Version": version()}
    if image := os.environ.get("APPTAINER_NAME") or os.environ.get("SINGULARITY_NAME"):
        entry["Container"] = {"Type": "apptainer", "Tag": image}
    elif tag := os.environ.get("IMUNITY_CONTAINER"):
        entry["Container"] = {"Type": "docker", "Tag": tag}
    return [entry]


def software() -> dict[str, str]:
    """Versions that decide the numbers."""
    names = ("torch", "antspyx", "nipype", "nibabel", "numpy", "scipy")
    return {"imunity-bids": version()} | {name: metadata.version(name) for name in names}


def image_sidecar(
    description: str, sources: list[str], space: str | None, uri: str, resolution: str = "1 mm isotropic"
) -> dict[str, Any]:
    """Fields that every derivative has.

    `space` is the template's name, or None for the voxels of the raw image `uri`, whose axes are put in RAS order.
    """
    kind = description.partition("+")[0]
    text = {**DESCRIPTIONS, **LABELS}[kind]
    fields: dict[str, Any] = {"Description": text, "Sources": sources, "SpatialReference": space or uri}
    return fields if space is None else fields | {"Resolution": f"{resolution}, the template's grid"}


def dataset_links(output_dir: Path, bids_dir: Path, others: Mapping[str, Path]) -> dict[str, str]:
    """URLs of the datasets that BIDS URIs name, those of earlier runs on this output included.

    Raises
    ------
    Usage
        An earlier run gave one of the names to another folder: its sidecars would point to this one.
    """
    known = read_description(output_dir).get("DatasetLinks", {})
    links = {name: folder.as_uri() for name, folder in others.items()}
    for name, link in links.items():
        if known.get(name, link) != link:
            raise Usage(f"{name}: in this output that is the name of {known[name]}; choose another, NAME=DIR")
    return known | links | {"raw": bids_dir.as_uri()}


def write_dataset_files(output_dir: Path, links: Mapping[str, str], methods: str) -> None:
    """Everything at the top of the output; the same text for the same version, so parallel jobs may repeat it.

    `links` are the `dataset_links`.
    """
    write_json(
        output_dir / "dataset_description.json",
        {
            "Name": "ImUnity-BIDS: harmonized T1w images",
            "BIDSVersion": BIDS_VERSION,
            "DatasetType": "derivative",
            "License": "see the license of the source dataset",
            "Authors": ["The ImUnity-BIDS developers", "The ImUnity-BIDS contributors"],
            "HowToAcknowledge": "Cite Cackowski et al. 2023, doi:10.1016/j.media.2023.102799; see logs/CITATION.md",
            "GeneratedBy": generated_by(),
            "SourceDatasets": [{"URL": link} for link in links.values()],
            "DatasetLinks": dict(links),
        },
    )
    write_text(output_dir / ".bidsignore", BIDSIGNORE)
    write_text(output_dir / "README.md", _README)
    rows = "".join(f"desc-{name}\t{text}\n" for name, text in descriptions(output_dir).items())
    write_text(output_dir / "descriptions.tsv", "desc_id\tdescription\n" + rows)
    write_json(
        output_dir / "descriptions.json",
        {
            "Description": "Meaning of the desc- entity of these derivatives",
            "desc_id": {"Description": "Label of the desc- entity"},
            "description": {"Description": "What an image with this label is"},
        },
    )
    write_text(output_dir / "logs" / "CITATION.md", methods)


def descriptions(output_dir: Path) -> dict[str, str]:
    """Text for every `desc-` label that stands in the output folder, and for those that always may."""
    texts = dict(DESCRIPTIONS)
    for path in output_dir.glob("sub-*/**/anat/*_desc-*+*.nii.gz"):
        label = path.name.rpartition("_desc-")[2].partition("_")[0]
        kind, _, reference = label.partition("+")
        if kind not in DESCRIPTIONS:  # another program's
            continue
        texts[label] = f"{DESCRIPTIONS[kind]} (reference {reference})"
    return dict(sorted(texts.items()))


_README = """# Harmonized T1-weighted images

Made by ImUnity-BIDS. Each participant has a report, `sub-*.html`; open it before you use the images.
The images to analyse are `*_space-*_res-1_desc-harmonized_T1w.nii.gz`; their sidecars say which reference, which
model and which parameters made them, and `*_scans.tsv` lists the quality measures. How to cite: `logs/CITATION.md`.
`imunity BIDS_DIR OUTPUT_DIR group` compares the sites (`group.html`) by what `*_features.json` holds of each image.
"""
